import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { YAML } from "bun";
import { deployFiles, filesNow, folder, handlers, noNode, pause, unstamped } from "../../build/deploy.ts";
import { incarnationOf } from "../../src/cli/change.ts";
import { parseArguments } from "../../src/cli/options.ts";
import { layouts } from "../../src/layout/registry.ts";
import {
  allMounts,
  oneshotDaemonSet,
  uninstallDaemonSet,
  uninstallJob,
  watchDaemonSet,
} from "../../src/managed/kubernetes.ts";
import { everyNode, mountsFor, nodeKinds } from "../../src/managed/mounts.ts";
import { yamlOf } from "../../src/managed/yaml.ts";
import { valueAt } from "../support/rendered.ts";

const stamp = { epoch: "2026-09-01T12:00:00.000Z", instance: "one" };

/** Every pod that we make, for every kind of node. */
const pods = nodeKinds.flatMap((kind) => {
  const wanted = {
    image: "example/shimctl:1",
    owner: "cluster",
    stamp,
    mounts: allMounts(kind),
    capabilities: kind.capabilities ?? [],
  };
  return Object.entries({
    watch: watchDaemonSet(wanted, "handlers"),
    oneshot: oneshotDaemonSet(wanted, "handlers", pause),
    uninstall: uninstallDaemonSet(wanted, pause),
    "uninstall-node": uninstallJob(wanted, noNode, [], "job"),
  }).map(([shape, object]) => ({ kind: kind.name, shape, object }));
});

interface Container {
  name: string;
  image: string;
  volumeMounts?: { name: string; mountPath: string; mountPropagation?: string; readOnly?: boolean }[];
  securityContext: { capabilities: { drop: string[]; add?: string[] }; [key: string]: unknown };
  ports?: { hostPort?: number }[];
  env?: { name: string; valueFrom: { fieldRef: { fieldPath: string } } }[];
}

interface Spec {
  containers: Container[];
  initContainers?: Container[];
  volumes: { name: string; hostPath?: { path: string; type: string } }[];
  tolerations?: unknown;
  [key: string]: unknown;
}

const specOf = (object: unknown) => valueAt(object, "spec", "template", "spec") as Spec;
const containersOf = (spec: Spec) => [...(spec.initContainers ?? []), ...spec.containers];

test("the files in deploy are what the source makes: npm run deploy", () => {
  const files = deployFiles();
  expect(filesNow()).toEqual([...files.keys()].sort());
  for (const [path, text] of files) expect(readFileSync(join(folder, path), "utf8"), path).toBe(text);
});

test("no file in deploy names an image without a tag, the latest one, or a registry", () => {
  for (const [path, text] of deployFiles())
    for (const [, image] of text.matchAll(/image: "?([^"\n]+)/g))
      expect(image, path).toMatch(/^localhost\/[a-z]+:\d[\d.]*$/);
});

test("without a stamp, no command of shimctl goes on", () => {
  const parsed = parseArguments(["uninstall", "--all"], {
    SHIMCTL_EPOCH: unstamped.epoch,
    SHIMCTL_INSTANCE: unstamped.instance,
  });
  expect(() => incarnationOf(parsed, new Date(0))).toThrow(
    expect.objectContaining({
      code: "usage",
      message: expect.stringContaining("Cannot read SHIMCTL_EPOCH"),
      facts: expect.objectContaining({ hint: expect.stringContaining("shimctl/epoch") }),
    }),
  );
});

describe("every pod", () => {
  for (const { kind, shape, object } of pods) {
    const spec = specOf(object);
    const containers = containersOf(spec);

    test(`${shape} on ${kind} mounts folders of the node that we know, propagated, and writes into few`, () => {
      const own = containers.find(({ name }) => name === "shimctl");
      const volumes = new Map(spec.volumes.map((volume) => [volume.name, volume]));
      expect(volumes.size).toBe(spec.volumes.length);
      const written: string[] = [];
      for (const mount of own?.volumeMounts ?? []) {
        const host = volumes.get(mount.name)?.hostPath;
        if (host === undefined) {
          expect([mount.mountPath, mount.readOnly]).toEqual(["/etc/shimctl", true]);
          continue;
        }
        expect(mount).toMatchObject({ mountPath: `/host${host.path}`, mountPropagation: "HostToContainer" });
        expect(host.type).toBe(host.path.endsWith("/shimctl") ? "DirectoryOrCreate" : "Directory");
        expect(host.path).toMatch(/^\/[a-z]/);
        expect(host.path).not.toMatch(/\.(sock|toml|conf)$/);
        if (mount.readOnly !== true) written.push(host.path);
      }
      expect(written).toEqual(
        allMounts(nodeKinds.find(({ name }) => name === kind) ?? { mounts: [] })
          .filter(({ writes }) => writes === true)
          .map(({ path }) => path),
      );
      expect(
        containers.filter(({ name }) => name !== "shimctl").flatMap((each) => each.volumeMounts ?? []),
      ).toEqual([]);
    });

    test(`${shape} on ${kind} has no privilege that docs/pod-security.md does not name`, () => {
      for (const key of ["hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace", "hostUsers"])
        expect(spec[key]).toBeUndefined();
      expect(spec).toMatchObject({
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        priorityClassName: "system-node-critical",
      });
      for (const { securityContext } of containers) {
        expect(securityContext).toMatchObject({
          privileged: false,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
        });
        expect(securityContext.capabilities.drop).toEqual(["ALL"]);
      }
      const added = containers.flatMap(({ securityContext }) => securityContext.capabilities.add ?? []);
      expect(added).toEqual(kind === "microk8s" ? ["CHOWN"] : []);
    });

    test(`${shape} on ${kind} takes its incarnation from its own stamp`, () => {
      expect(valueAt(object, "spec", "template", "metadata", "annotations")).toMatchObject({
        "shimctl/epoch": stamp.epoch,
        "shimctl/instance": stamp.instance,
      });
      const own = containers.find(({ name }) => name === "shimctl");
      expect(own?.env?.map(({ name, valueFrom }) => [name, valueFrom.fieldRef.fieldPath])).toEqual([
        ["SHIMCTL_EPOCH", "metadata.annotations['shimctl/epoch']"],
        ["SHIMCTL_INSTANCE", "metadata.annotations['shimctl/instance']"],
        ["SHIMCTL_NODE_NAME", "spec.nodeName"],
      ]);
    });

    test(`${shape} on ${kind} is told apart from the others by its labels`, () => {
      expect(valueAt(object, "spec", "template", "metadata", "labels")).toMatchObject({
        "app.kubernetes.io/component": shape,
      });
      if (shape.startsWith("uninstall")) expect(spec.tolerations).toEqual([{ operator: "Exists" }]);
      else expect(spec["nodeSelector"]).toMatchObject({ "shimctl/wave": "1" });
    });
  }
});

/** What a pod may do of which Pod Security says nothing, or nothing so fine. */
function privilegesOf(object: unknown): string[] {
  const spec = specOf(object);
  const told = ["hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace"].filter(
    (key) => spec[key] === true,
  );
  if (spec["automountServiceAccountToken"] !== false) told.push("token");
  if (spec["enableServiceLinks"] !== false) told.push("service links");
  for (const { name, hostPath } of spec.volumes) {
    if (hostPath === undefined) continue;
    const { path, type } = hostPath;
    if (!/^Directory/.test(type)) told.push(`${path} may be a ${type}`);
    for (const container of containersOf(spec))
      for (const mount of container.volumeMounts ?? [])
        if (mount.name === name)
          told.push(
            `${container.name} ${mount.readOnly === true ? "reads" : "writes"} ${path} ${mount.mountPropagation}`,
          );
  }
  for (const { name, securityContext: at, ports } of containersOf(spec)) {
    if (at["privileged"] !== false) told.push(`${name} is privileged`);
    if (at["allowPrivilegeEscalation"] !== false) told.push(`${name} gains privileges`);
    if (at["readOnlyRootFilesystem"] !== true) told.push(`${name} writes its root`);
    if (at.capabilities.drop.join() !== "ALL") told.push(`${name} keeps capabilities`);
    told.push(...(at.capabilities.add ?? []).map((each) => `${name} has ${each}`));
    told.push(
      ...(ports ?? [])
        .filter(({ hostPort }) => hostPort !== undefined)
        .map(() => `${name} has a port of the host`),
    );
  }
  return told.sort();
}

const everyPod = [
  "shimctl reads /opt HostToContainer",
  "shimctl reads /run/dbus HostToContainer",
  "shimctl reads /usr HostToContainer",
  "shimctl writes /run/lock HostToContainer",
  "shimctl writes /run/shimctl HostToContainer",
  "shimctl writes /var/lib/shimctl HostToContainer",
];
const kindsOfPods: Readonly<Record<string, readonly string[]>> = {
  containerd: [
    "shimctl reads /run/containerd HostToContainer",
    "shimctl writes /etc/containerd HostToContainer",
  ],
  crio: ["shimctl reads /run/crio HostToContainer", "shimctl writes /etc/crio HostToContainer"],
  k3s: [
    "shimctl reads /run/k3s/containerd HostToContainer",
    "shimctl writes /var/lib/rancher/k3s/agent/etc/containerd HostToContainer",
  ],
  rke2: [
    "shimctl reads /run/k3s/containerd HostToContainer",
    "shimctl writes /var/lib/rancher/rke2/agent/etc/containerd HostToContainer",
  ],
  k0s: [
    "shimctl reads /run/k0s HostToContainer",
    "shimctl reads /var/lib/k0s/bin HostToContainer",
    "shimctl writes /etc/k0s HostToContainer",
  ],
  microk8s: [
    "shimctl has CHOWN",
    "shimctl reads /snap/microk8s HostToContainer",
    "shimctl writes /var/snap/microk8s HostToContainer",
  ],
};

describe("the privileges of a pod are these, and no other:", () => {
  for (const { kind, shape, object } of pods)
    test(`${shape} on ${kind}`, () => {
      expect(privilegesOf(object)).toEqual([...everyPod, ...(kindsOfPods[kind] ?? [])].sort());
    });

  const more: Readonly<Record<string, (spec: Spec, own: Container) => void>> = {
    "the host's processes": (spec) => Object.assign(spec, { hostPID: true }),
    "the host's network": (spec) => Object.assign(spec, { hostNetwork: true }),
    "the host's IPC": (spec) => Object.assign(spec, { hostIPC: true }),
    "the host's root": (spec, own) => {
      spec.volumes.push({ name: "root", hostPath: { path: "/", type: "Directory" } });
      own.volumeMounts?.push({ name: "root", mountPath: "/host", mountPropagation: "HostToContainer" });
    },
    "a socket": (spec, own) => {
      spec.volumes.push({ name: "socket", hostPath: { path: "/run/x.sock", type: "Socket" } });
      own.volumeMounts?.push({ name: "socket", mountPath: "/host/run/x.sock" });
    },
    "a folder that is written": (_, own) => {
      for (const each of own.volumeMounts ?? []) delete each.readOnly;
    },
    "mounts for the host": (_, own) => {
      for (const each of own.volumeMounts ?? []) Object.assign(each, { mountPropagation: "Bidirectional" });
    },
    "its own root": (_, { securityContext }) =>
      Object.assign(securityContext, { readOnlyRootFilesystem: false }),
    everything: (_, { securityContext }) => Object.assign(securityContext, { privileged: true }),
    "a capability": (_, { securityContext }) =>
      Object.assign(securityContext, { capabilities: { drop: ["ALL"], add: ["DAC_OVERRIDE"] } }),
    "capabilities by default": (_, { securityContext }) =>
      Object.assign(securityContext, { capabilities: { drop: [] } }),
    "new privileges": (_, { securityContext }) => delete securityContext["allowPrivilegeEscalation"],
    "a token": (spec) => delete spec["automountServiceAccountToken"],
    "service links": (spec) => delete spec["enableServiceLinks"],
    "a port of the host": (_, own) => Object.assign(own, { ports: [{ containerPort: 1, hostPort: 1 }] }),
  };
  for (const [what, change] of Object.entries(more))
    test(`it is seen when one is given ${what}`, () => {
      for (const { object } of pods) {
        const changed = structuredClone(object);
        const spec = specOf(changed);
        const own = containersOf(spec).find(({ name }) => name === "shimctl");
        if (own !== undefined) change(spec, own);
        expect(privilegesOf(changed)).not.toEqual(privilegesOf(object));
      }
    });
});

test("each kind of node mounts where its layouts have the engine's files and its socket", () => {
  for (const { layouts: named, mounts } of nodeKinds)
    for (const layout of layouts.filter(({ name }) => named.includes(name))) {
      const host = {
        root: "/",
        read: (path: string) => ({ kind: "absent", path, resolved: path, dangling: false }) as const,
        list: () => undefined,
        exists: () => false,
        isExecutable: () => false,
      };
      const { rootFile, socket, source } = layout.places(host, undefined);
      const holds = (path: string) => mounts.find((mount) => path.startsWith(`${mount.path}/`));
      expect(holds(rootFile)?.writes, layout.name).toBe(true);
      expect(holds(socket), layout.name).toBeDefined();
      const dropIns =
        source?.kind === "merged" ? [source.folder] : source?.kind === "rendered" ? source.dropIns : [];
      for (const path of dropIns) expect(holds(`${path}/x`)?.writes, layout.name).toBe(true);
    }
});

test("the folder of a handler's file is mounted only where nothing of it is", () => {
  expect(mountsFor([["/usr/bin/crun"], ["/opt/kata/bin/x", "/srv/x"]], everyNode)).toEqual([]);
  expect(mountsFor([["/srv/kata/bin/shim"], ["/srv/kata/bin/other"], ["/data/c.toml"]], everyNode)).toEqual([
    { name: "handlers-1", path: "/data" },
    { name: "handlers-2", path: "/srv/kata/bin" },
  ]);
});

test("YAML that is written is read as what it was", () => {
  for (const { object } of pods) expect(YAML.parse(yamlOf([object]))).toEqual(object);
  for (const text of [
    "",
    "no",
    "1e3",
    "0x1f",
    "~",
    "a: b",
    "- a",
    "# a",
    "a\nb\n",
    "a\nb",
    "\n",
    " a\nb",
    "a\n\n",
    "é\nb",
    "\u2028",
    "2026-09-01",
    "'",
    '"',
    handlers,
  ])
    expect(
      YAML.parse(yamlOf([{ key: text, list: [text, [text], { a: text }], none: [], empty: {} }])),
    ).toEqual({
      key: text,
      list: [text, [text], { a: text }],
      none: [],
      empty: {},
    });
});
