import packageJson from "../../package.json" with { type: "json" };
import { isNodeName } from "../cluster/labels.ts";
import { backends } from "../engine/registry.ts";
import { ShimctlError } from "../error.ts";
import { type Handler, HandlerName } from "../handler/model.ts";
import { randomUUID } from "../host/random.ts";
import { layouts } from "../layout/registry.ts";
import { clusterOwner, daemonSetName, waveLabel } from "../managed/kubernetes.ts";
import { type Asked, daemonSetManifests, jobManifests, type manifestNames } from "../managed/manifests.ts";
import { type NodeKind, nodeKinds } from "../managed/mounts.ts";
import type { Notes } from "../managed/system.ts";
import { yamlOf } from "../managed/yaml.ts";
import { ownerOf } from "./change.ts";
import type { ReadFile } from "./handler_file.ts";
import type { Io } from "./io.ts";
import { nearest, type Parsed, shown } from "./options.ts";
import { document } from "./output.ts";
import { fileOf, handlersOf, heading, understood } from "./render_parts.ts";

/** The image as `npm run image` names it. */
const ownImage = `localhost/shimctl:${packageJson.version}`;

/**
 * `render --for daemonset` and `--for job`: everything by which a cluster brings shimctl to its nodes, or on one of
 * them takes back what it did.
 */
export async function renderManifests(
  io: Io,
  parsed: Parsed,
  name: (typeof manifestNames)[number],
): Promise<number> {
  const { options } = parsed;
  const kind = kindOf(parsed);
  const image = imageOf(parsed);
  const file = await fileOf(io, parsed);
  // A person is `default`: whoever looks at a node tells them apart.
  const owner =
    options.given.has("owner") || file?.content.owner !== undefined ? ownerOf(parsed, file) : clusterOwner;
  const stamp = { epoch: io.now().toISOString(), instance: randomUUID() };
  const asked: Asked = { kind, image, owner, stamp };
  const isJob = name === "job";
  if (options.all && (!isJob || parsed.args.length > 0 || file !== undefined))
    throw new ShimctlError(
      "usage",
      "Cannot use --all, as handlers are what a DaemonSet is about, and a Job that names some",
      {
        hint: "leave it out, or write render --for job --all alone",
      },
    );
  const handlers = isJob ? [] : handlersOf(parsed, file);
  const names = isJob ? removedBy(parsed, file) : handlers.map((handler) => handler.name);
  const objects = isJob
    ? jobManifests(asked, nodeOf(parsed), names)
    : daemonSetManifests(asked, tomlOf(parsed, file?.text), needsOf(kind, handlers));
  const about = [
    `Kubernetes (${isJob ? "a Job that uninstalls" : "DaemonSet"}): ${names.length === 0 ? `all of the owner ${owner}` : names.join(", ")}, on nodes with ${kind.title}`,
    `Made by shimctl render --for ${name}, at ${stamp.epoch}: an incarnation that is newer than all before. Make it again for each roll-out, and do not apply an old one.`,
  ];
  const text = `${heading(about, isJob ? jobNotes() : daemonSetNotes(asked, options.image === undefined), [])}\n${yamlOf(objects)}`;
  io.out(
    options.json
      ? document("render", "ok", undefined, {
          for: name,
          handlers: isJob ? names.map((each) => ({ name: each })) : handlers,
          warnings: [],
          stamp,
          objects,
          text,
        })
      : text,
  );
  return 0;
}

/** Handlers that a Job removes; none: all of the owner. What is on a node need not be known here. */
function removedBy(parsed: Parsed, file: ReadFile | undefined): string[] {
  const { args, options } = parsed;
  if (options.all) return [];
  for (const name of args) {
    const { error } = HandlerName.safeParse(name);
    if (error !== undefined)
      throw new ShimctlError(
        "usage",
        `Cannot use '${shown(name)}' as a handler's name, which ${error.issues[0]?.message ?? "is invalid"}`,
      );
  }
  const named =
    file === undefined && args.length > 0
      ? []
      : handlersOf({ ...parsed, args: [] }, file).map(({ name }) => name);
  return [...new Set([...named, ...args])].sort();
}

/** Which folders of a node the pod gets. */
function kindOf({ options }: Parsed): NodeKind {
  const { layout, engine, given } = options;
  const known = nodeKinds.map(({ name }) => name);
  const kind =
    layout === undefined
      ? nodeKinds.find((each) => each.engine === (engine === "auto" ? "containerd" : engine))
      : nodeKinds.find(({ name, layouts }) => name === layout || layouts.includes(layout));
  if (kind === undefined)
    throw new ShimctlError(
      "usage",
      `Cannot use ${given.get("layout") ?? "--layout"}, as no manifest is made for such nodes: ${shown(layout ?? engine)}`,
      { hint: `${nearest(layout ?? engine, known)}known are ${known.join(", ")}` },
    );
  if (engine !== "auto" && kind.engine !== engine)
    throw new ShimctlError(
      "usage",
      `Cannot use ${given.get("engine") ?? "--engine"}, as ${kind.title} runs ${kind.engine}: ${engine}`,
      { hint: "leave it out" },
    );
  return kind;
}

/** https://github.com/distribution/reference/blob/main/reference.go, without upper-case hosts, and never without a tag or digest. */
const imagePattern =
  /^((?:[a-z0-9.-]+|\[[0-9a-f:]+\])(:\d+)?\/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(?<tag>:\w[\w.-]{0,127})?(?<digest>@sha256:[0-9a-f]{64})?$/;

function imageOf({ options: { image, given } }: Parsed): string {
  if (image === undefined) return ownImage;
  const { tag, digest } = imagePattern.exec(image)?.groups ?? {};
  if (digest !== undefined || (tag !== undefined && tag !== ":latest")) return image;
  throw new ShimctlError(
    "usage",
    `Cannot use ${given.get("image") ?? "--image"}, which must name an image with its tag or digest, and not latest: ${shown(image)}`,
    { hint: "name the release, so that all nodes of a roll-out run the same one" },
  );
}

/**
 * `kubectl apply` keeps what it applied in an annotation, and the API takes no more than 256 KiB of these
 * (https://github.com/kubernetes/apimachinery/blob/master/pkg/api/validation/objectmeta.go).
 */
function refuseLarge(text: string): void {
  const kib = Math.ceil(Buffer.byteLength(JSON.stringify(text)) / 1024);
  if (kib <= 240) return;
  throw new ShimctlError(
    "usage",
    `Cannot put this handler file into the cluster, as kubectl apply takes no more than 240 KiB: ${kib} KiB`,
    {
      hint: "leave comments and handlers out that the nodes do not need, or give several owners a part each",
    },
  );
}

function nodeOf({ options: { nodeName, given } }: Parsed): string {
  if (nodeName === undefined)
    throw new ShimctlError("usage", "Cannot render a Job, as --node-name is missing", {
      hint: "write --node-name NAME; kubectl get nodes lists them",
    });
  if (isNodeName(nodeName)) return nodeName;
  throw new ShimctlError(
    "usage",
    `Cannot use ${given.get("node-name") ?? "--node-name"}, as no Kubernetes node can have this name: ${shown(nodeName)}`,
    { hint: "kubectl get nodes lists them" },
  );
}

/** The handler file that the pods read: the one that was given, or one that says what the command line says. */
function tomlOf({ args, options }: Parsed, text: string | undefined): string {
  const { prefix, snapshotter, given } = options;
  if (text !== undefined) {
    const also =
      args.length > 0
        ? "handlers by name"
        : ["--prefix", "--snapshotter"].find((each) => [...given.values()].includes(each));
    refuseLarge(text);
    if (also === undefined) return text;
    throw new ShimctlError(
      "usage",
      `Cannot take ${also} besides a handler file, which goes into the cluster as it is`,
      {
        hint: "write it into the handler file",
      },
    );
  }
  return [
    "format = 1",
    ...(prefix === undefined ? [] : [`prefix = ${JSON.stringify(prefix)}`]),
    ...(snapshotter === undefined ? [] : [`snapshotter = ${JSON.stringify(snapshotter)}`]),
    ...[...args].sort().map((name) => `\n[handlers.${name}]`),
    "",
  ].join("\n");
}

/** Places of files that the handlers need, by the rules of a present engine: what it is, each node tells by itself. */
function needsOf(kind: NodeKind, handlers: readonly Handler[]): (readonly string[])[] {
  const backend = backends.find(({ name }) => name === kind.engine);
  const layout = layouts.find((each) => each.engine === kind.engine);
  if (backend === undefined || layout === undefined)
    throw new ShimctlError("internal", `Cannot render for ${kind.engine}`);
  const target = { schema: 3 };
  return understood(backend, layout, undefined, target, handlers).needs.map(({ paths }) => paths);
}

function daemonSetNotes({ kind, image, owner }: Asked, isOwnImage: boolean): Notes {
  return {
    wiped:
      "The system bus and the engine's configuration equal root on the node: whoever may change these objects, or run a pod in their namespace, is root on every node. docs/pod-security.md names each privilege and why it is there.",
    apply: [
      ...(isOwnImage
        ? [
            `Nodes have no image of this name unless somebody imported it: pass --image REF, as your registry has it, or import it on each node.`,
          ]
        : []),
      "Save this as shimctl.yaml. Nothing happens on a node before it has the label that selects a wave; control-plane nodes never get the pod:",
      "  kubectl apply -f shimctl.yaml",
      `  kubectl label node NODE ${waveLabel}=1`,
      "The next wave are more nodes with the same label. RuntimeClasses are made by shimctl render --for runtimeclass.",
    ],
    takeBack: [
      "Ending the pods uninstalls nothing. First delete the DaemonSet, then uninstall on each node:",
      `  kubectl -n shimctl-system delete daemonset ${daemonSetName(owner)}`,
      `  shimctl render --for job --all --node-name NODE ${sameFor({ kind, image, owner }, isOwnImage)} | kubectl apply -f -`,
    ],
    check: [
      "Every folder below that is mounted, and is not shimctl's own, has to be on the node: else its pod waits and its events name the folder.",
    ],
  };
}

/** What another document for the same nodes has to be told. */
function sameFor(
  { kind, image, owner }: Pick<Asked, "kind" | "image" | "owner">,
  isOwnImage: boolean,
): string {
  return [
    `--layout ${kind.name}`,
    ...(owner === clusterOwner ? [] : [`--owner ${owner}`]),
    ...(isOwnImage ? [] : [`--image ${image}`]),
  ].join(" ");
}

function jobNotes(): Notes {
  return {
    wiped:
      "It is put on the node without the scheduler, whatever its taints are, and works without the API once it runs. The node's older pods and Jobs are superseded by it.",
    apply: [
      "Delete the DaemonSet first, or take the node out of its wave: a newer one installs again. Then",
      "  kubectl apply -f job.yaml",
      "  kubectl -n shimctl-system wait --for=condition=complete --timeout=1h job --selector app.kubernetes.io/component=uninstall-node",
    ],
    takeBack: ["Install again: shimctl render --for daemonset"],
    check: [
      "Handlers that running pods use are not removed: the Job says which, and tries again a few times.",
    ],
  };
}
