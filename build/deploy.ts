/**
 * `npm run deploy`: the Kustomize files in `deploy/`, from the same source as `shimctl render --for daemonset|job`.
 */
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { parseHandlerFile, resolveAll } from "../src/cli/handler_file.ts";
import {
  clusterOwner,
  hostVolumes,
  mountsOf,
  namespace,
  namespaceObject,
  oneshotDaemonSet,
  type Part,
  serviceAccount,
  uninstallDaemonSet,
  uninstallJob,
  type Wanted,
  watchDaemonSet,
} from "../src/managed/kubernetes.ts";
import { everyNode, type NodeKind, nodeKinds } from "../src/managed/mounts.ts";
import { runtimeClasses } from "../src/managed/runtime_class.ts";
import { comment, yamlOf } from "../src/managed/yaml.ts";

export const folder = join(import.meta.dirname, "..", "deploy");

/** The handler file of the base, for users to put theirs in its place. */
export const handlers = `format = 1

[handlers.kata-qemu]
`;
/** What stands for a stamp until somebody puts one in its place: no epoch, so that shimctl refuses it and changes nothing. */
export const unstamped = { epoch: "UNSTAMPED-EPOCH", instance: "UNSTAMPED-INSTANCE" } as const;
/** What stands for the node of the Job until somebody names one. */
export const noNode = "unnamed-node";
/** The cluster's own pause image has to be put in its place. */
export const pause = "localhost/pause:3.10";
const handlersName = "shimctl-handlers";

const wanted: Wanted = {
  image: `localhost/shimctl:${packageJson.version}`,
  owner: clusterOwner,
  stamp: unstamped,
  mounts: everyNode,
  capabilities: [],
};

/** What is made for each kind of node, and where our container stands in its pods. */
export const shapes = [
  { name: "watch", object: watchDaemonSet(wanted, handlersName), list: "containers", hasHandlers: true },
  {
    name: "oneshot",
    object: oneshotDaemonSet(wanted, handlersName, pause),
    list: "initContainers",
    hasHandlers: true,
  },
  {
    name: "uninstall",
    object: uninstallDaemonSet(wanted, pause),
    list: "initContainers",
    hasHandlers: false,
  },
  {
    name: "uninstall-node",
    object: uninstallJob(wanted, noNode, [], "shimctl-uninstall-node"),
    list: "containers",
    hasHandlers: false,
  },
] as const;

type Shape = (typeof shapes)[number];

/** Every file that is made, by its path below `deploy/`. */
export function deployFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const add = (path: string, about: string, ...documents: readonly Part[]) =>
    files.set(
      path,
      `${[about, "", "Made by npm run deploy."].map(comment).join("\n")}\n${yamlOf(documents)}`,
    );

  add(
    "common/namespace.yaml",
    "Where everything is. Pod Security: docs/pod-security.md says why.",
    namespaceObject(),
  );
  add("common/account.yaml", "An account without any rights; no pod gets its token.", serviceAccount());
  add(
    "common/kustomization.yaml",
    "What every variant needs.",
    kustomization({ resources: ["namespace.yaml", "account.yaml"] }),
  );

  const classes = parseHandlerFile(new TextEncoder().encode(handlers), "handlers.toml");
  const all = resolveAll(classes, [], { prefix: undefined, snapshotter: undefined, exists: () => false });
  files.set(
    "handlers/runtimeclasses.yaml",
    `${comment("RuntimeClasses of the handlers in handlers.toml: shimctl render --for runtimeclass -f handlers.toml")}\n${runtimeClasses(all.map(({ handler }) => handler))}`,
  );
  files.set(
    "handlers/handlers.toml",
    `# What is installed on the nodes, by its presets or spelled out: put yours in its place.\n${handlers}`,
  );
  add(
    "handlers/kustomization.yaml",
    "The handler file, and the classes by which pods ask for its handlers.",
    kustomization({
      resources: ["runtimeclasses.yaml"],
      configMapGenerator: [
        { name: handlersName, namespace, files: ["handlers.toml"], options: { immutable: true } },
      ],
    }),
  );

  for (const { name, object, hasHandlers } of shapes) {
    const base = name === "watch" ? "base" : name;
    add(`${base}/shimctl.yaml`, abouts[name], object);
    add(
      `${base}/kustomization.yaml`,
      "Without what the kind of node needs: see overlays.",
      kustomization({
        resources: ["../common", ...(hasHandlers ? ["../handlers"] : []), "shimctl.yaml"],
      }),
    );
  }
  for (const kind of nodeKinds) {
    for (const list of ["containers", "initContainers"] as const)
      add(
        `kinds/${kind.name}/${list}.yaml`,
        `What is mounted on nodes with ${kind.title}.`,
        patchOf(kind, list),
      );
    add(`kinds/${kind.name}/kustomization.yaml`, `Nodes with ${kind.title}.`, {
      ...kustomization({ patches: patches((list) => `${list}.yaml`) }),
      apiVersion: "kustomize.config.k8s.io/v1alpha1",
      kind: "Component",
    });
    for (const { name } of shapes) {
      const path = name === "watch" ? `overlays/${kind.name}` : `overlays/${kind.name}/${name}`;
      const up = name === "watch" ? "../.." : "../../..";
      add(
        `${path}/kustomization.yaml`,
        `${abouts[name]} For nodes with ${kind.title}.`,
        kustomization({
          resources: [`${up}/${name === "watch" ? "base" : name}`],
          components: [`${up}/kinds/${kind.name}`],
        }),
      );
    }
  }
  add(
    "node-label/rights.yaml",
    "To read a node and to change it: no name can be given, as each pod's is another one, so that every token may change every node.",
    ...nodeRights(),
  );
  for (const list of ["containers", "initContainers"] as const)
    add(`node-label/${list}.yaml`, "The token, and which label the node gets.", labelPatch(list));
  add("node-label/kustomization.yaml", "Nodes get a label while their handlers are proved to be served.", {
    ...kustomization({ resources: ["rights.yaml"], patches: patches((list) => `${list}.yaml`) }),
    apiVersion: "kustomize.config.k8s.io/v1alpha1",
    kind: "Component",
  });
  return files;
}

const abouts: Readonly<Record<Shape["name"], string>> = {
  watch: "A DaemonSet that installs the handlers and keeps them so.",
  oneshot: "A DaemonSet that installs the handlers once; nothing of shimctl runs afterwards.",
  uninstall: "A DaemonSet that uninstalls on every node. Delete the one that installs first.",
  "uninstall-node": "A Job that uninstalls on one node. Delete the DaemonSet that installs first.",
};

function kustomization(content: Part): Part {
  return { apiVersion: "kustomize.config.k8s.io/v1beta1", kind: "Kustomization", ...content };
}

/** A patch for each place in which our container may stand. */
function patches(file: (list: Shape["list"]) => string): Part[] {
  return (["containers", "initContainers"] as const).map((list) => ({
    path: file(list),
    target: {
      labelSelector: `app.kubernetes.io/component in (${shapes
        .filter((shape) => shape.list === list)
        .map(({ name }) => name)
        .join(", ")})`,
    },
  }));
}

/** Lists of a pod are merged by name and by path: what is in the base stays. */
function patchOf({ mounts, capabilities }: NodeKind, list: Shape["list"]): Part {
  return podPatch({
    [list]: [
      {
        name: "shimctl",
        ...(capabilities === undefined ? {} : { securityContext: { capabilities: { add: capabilities } } }),
        volumeMounts: mountsOf(mounts),
      },
    ],
    volumes: hostVolumes(mounts),
  });
}

function labelPatch(list: Shape["list"]): Part {
  return podPatch({
    automountServiceAccountToken: true,
    [list]: [
      {
        name: "shimctl",
        env: [{ name: "SHIMCTL_NODE_LABEL", value: "katacontainers.io/kata-runtime=true" }],
      },
    ],
  });
}

/** What it is for, its target says: name and kind of a patch are not looked at then. */
function podPatch(spec: Part): Part {
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "any" },
    spec: { template: { spec } },
  };
}

function nodeRights(): Part[] {
  const metadata = { name: "shimctl-node-label", labels: { "app.kubernetes.io/name": "shimctl" } };
  const group = "rbac.authorization.k8s.io";
  return [
    {
      apiVersion: `${group}/v1`,
      kind: "ClusterRole",
      metadata,
      rules: [{ apiGroups: [""], resources: ["nodes"], verbs: ["get", "patch"] }],
    },
    {
      apiVersion: `${group}/v1`,
      kind: "ClusterRoleBinding",
      metadata,
      roleRef: { apiGroup: group, kind: "ClusterRole", name: metadata.name },
      subjects: [{ kind: "ServiceAccount", name: "shimctl", namespace }],
    },
  ];
}

/** What is in `deploy/` now, but for what people write there. */
export function filesNow(): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => statSync(join(folder, path)).isFile() && path !== "README.md")
    .sort();
}

if (import.meta.main) {
  mkdirSync(folder, { recursive: true });
  const files = deployFiles();
  for (const path of filesNow()) if (!files.has(path)) rmSync(join(folder, path));
  for (const [path, text] of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
}
