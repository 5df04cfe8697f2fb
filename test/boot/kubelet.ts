import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  documentsOf,
  list,
  type Mapping,
  mapping,
  only,
  optional,
  text,
  texts,
} from "../support/manifest.ts";
import type { BootedNode } from "./boot.ts";
import type { ContainerConfigSchema, PodSandboxConfigSchema } from "./containers_pb.ts";
import { criOf } from "./cri.ts";

type SandboxConfig = MessageInitShape<typeof PodSandboxConfigSchema>;
type ContainerConfig = MessageInitShape<typeof ContainerConfigSchema>;

/** A container that runs, as the engine knows it. */
export interface Running {
  readonly id: string;
  /** Its first process, as the node numbers it. */
  readonly pid: number;
  /** SIGTERM, and SIGKILL after the time that is given. Returns after the engine says that it is over. */
  stop(graceSeconds?: number): Promise<{ code: number; ms: number }>;
  state(): Promise<{ running: boolean; code: number }>;
}

/** A pod of a rendered manifest on a booted node. */
export interface Pod {
  /** What a probe of the manifest asks, from the pod's own network. */
  readonly probes: Readonly<Record<string, { readonly path: string; readonly port: number }>>;
  /** Any process in its network: the sandbox's. */
  readonly sandboxPid: number;
  /** Runs the container, once more after its end, as a kubelet does. */
  start(): Promise<Running>;
  log(): string;
  remove(): Promise<void>;
}

export interface Changes {
  /** Other arguments than those of the manifest: what cannot be waited for in a test. */
  readonly args?: (args: readonly string[]) => readonly string[];
  readonly nodeName?: string;
}

/** Of what the kubelet itself adds: every pod has it, service links or not. */
const fromKubelet = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };

/** The kubelet's own, for containers that may not see all of /proc (pkg/securitycontext). */
const maskedPaths = [
  "/proc/asound",
  "/proc/acpi",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/firmware",
  "/sys/devices/virtual/powercap",
];
const readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/** For the scheduler, the controllers and the API server: nothing of it reaches the engine. */
const notForEngine = [
  "affinity",
  "nodeSelector",
  "nodeName",
  "tolerations",
  "terminationGracePeriodSeconds",
  "automountServiceAccountToken",
  "serviceAccountName",
  "enableServiceLinks",
  "restartPolicy",
];

/**
 * Runs the pod of a workload as the node's kubelet would: sandbox, volumes, container, each with what the manifest
 * says and nothing else. SELinux options are passed over, as no kernel here has it; so is AppArmor where there is none.
 */
export async function runPodOf(node: BootedNode, manifest: string, changes: Changes = {}): Promise<Pod> {
  const documents = documentsOf(manifest);
  const workload = documents.find(({ kind }) => kind === "DaemonSet" || kind === "Job");
  if (workload === undefined) throw new Error("no workload in the manifest");
  const namespace = text(mapping(workload["metadata"])["namespace"]);
  const template = only(mapping(mapping(workload["spec"])["template"]), "metadata", "spec");
  const annotations = optional(optional(template["metadata"])["annotations"]);
  const spec = only(
    mapping(template["spec"]),
    ...notForEngine,
    "priorityClassName",
    "securityContext",
    "containers",
    "volumes",
  );
  const [container, ...others] = list(spec["containers"]);
  if (container === undefined || others.length > 0) throw new Error("not one container in the pod");

  const uid = crypto.randomUUID();
  const name = `${text(mapping(workload["metadata"])["name"])}-${uid.slice(0, 5)}`;
  const folder = `/var/lib/kubelet/pods/${uid}`;
  const logs = `/var/log/pods/${namespace}_${name}_${uid}`;
  const fields: Readonly<Record<string, string>> = {
    "spec.nodeName": changes.nodeName ?? "node-1",
    "metadata.name": name,
    "metadata.namespace": namespace,
    "metadata.uid": uid,
    ...Object.fromEntries(
      Object.entries(annotations).map(([key, value]) => [`metadata.annotations['${key}']`, text(value)]),
    ),
  };
  const volumes = placeVolumes(node, folder, list(spec["volumes"]), documents);
  node.run(["mkdir", "-p", logs, `${folder}/containers`]);

  const podContext = only(
    optional(spec["securityContext"]),
    "runAsUser",
    "runAsGroup",
    "seccompProfile",
    "appArmorProfile",
    "seLinuxOptions",
  );
  const sandbox: SandboxConfig = {
    metadata: { name, uid, namespace, attempt: 0 },
    hostname: name,
    logDirectory: logs,
    annotations: Object.fromEntries(Object.entries(annotations).map(([key, value]) => [key, text(value)])),
    // The pod's own network and IPC, and for each container its own processes.
    linux: {
      securityContext: { namespaceOptions: { network: 0, pid: 1, ipc: 0 }, seccomp: { profileType: 0 } },
    },
  };
  const cri = () => criOf(node);
  const { podSandboxId } = await cri().runPodSandbox({ config: sandbox });
  const { info } = await cri().podSandboxStatus({ podSandboxId, verbose: true });
  let attempt = -1;
  const config = () =>
    containerConfig(node, container, podContext, volumes, fields, folder, attempt, changes, spec);
  const started: string[] = [];
  return {
    probes: probesOf(container),
    sandboxPid: pidIn(info["info"]),
    async start() {
      const { containerId } = await patiently(() => {
        // A new one each time: of one whose answer was lost, the engine has the name.
        attempt++;
        return cri().createContainer({ podSandboxId, config: config(), sandboxConfig: sandbox });
      });
      started.push(containerId);
      await patiently(async () => {
        const { status } = await cri().containerStatus({ containerId });
        if (status?.state !== 1) await cri().startContainer({ containerId });
      });
      const told = await patiently(() => cri().containerStatus({ containerId, verbose: true }));
      const state = async () => {
        const { status } = await patiently(() => cri().containerStatus({ containerId }));
        return { running: status?.state === 1, code: status?.exitCode ?? -1 };
      };
      return {
        id: containerId,
        pid: pidIn(told.info["info"]),
        state,
        async stop(graceSeconds = Number(spec["terminationGracePeriodSeconds"] ?? 30)) {
          const before = performance.now();
          await cri().stopContainer({ containerId, timeout: BigInt(graceSeconds) });
          return { code: (await state()).code, ms: performance.now() - before };
        },
      };
    },
    log: () => node.run(["sh", "-c", `cat ${logs}/*.log`]).out,
    async remove() {
      for (const containerId of started) {
        await cri().stopContainer({ containerId, timeout: 0n });
        await cri().removeContainer({ containerId });
      }
      await cri().stopPodSandbox({ podSandboxId });
      await cri().removePodSandbox({ podSandboxId });
    },
  };
}

function containerConfig(
  node: BootedNode,
  container: Mapping,
  podContext: Mapping,
  volumes: ReadonlyMap<string, string>,
  fields: Readonly<Record<string, string>>,
  folder: string,
  attempt: number,
  changes: Changes,
  spec: Mapping,
): ContainerConfig {
  only(
    container,
    ...["name", "image", "imagePullPolicy", "command", "args", "env", "resources", "securityContext"],
    ...["terminationMessagePolicy", "terminationMessagePath", "volumeMounts", "ports"],
    ...["startupProbe", "livenessProbe", "readinessProbe"],
  );
  const context = {
    ...podContext,
    ...only(
      optional(container["securityContext"]),
      ...["privileged", "allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"],
      ...["runAsUser", "runAsGroup", "seccompProfile", "appArmorProfile", "seLinuxOptions"],
    ),
  } as Mapping;
  const capabilities = only(optional(context["capabilities"]), "add", "drop");
  const env: Record<string, string> = { ...fromKubelet };
  for (const each of list(container["env"])) env[text(each["name"])] = variableOf(each, fields);
  const expand = (value: string) => value.replace(/\$\(([^)]+)\)/g, (all, name: string) => env[name] ?? all);
  const last = `${folder}/containers/${text(container["name"])}-${attempt}`;
  node.place(last, "", "666");
  node.place(`${folder}/etc-hosts`, "127.0.0.1 localhost\n");
  return {
    metadata: { name: text(container["name"]), attempt },
    image: { image: text(container["image"]) },
    command: texts(container["command"]).map(expand),
    args: [...(changes.args ?? ((args) => args))(texts(container["args"]).map(expand))],
    envs: Object.entries(env).map(([key, value]) => ({ key, value })),
    mounts: [
      ...list(container["volumeMounts"]).map((mount) => mountOf(mount, volumes)),
      { containerPath: "/etc/hosts", hostPath: `${folder}/etc-hosts` },
      {
        containerPath: text(container["terminationMessagePath"] ?? "/dev/termination-log"),
        hostPath: last,
      },
    ],
    logPath: `${attempt}.log`,
    linux: {
      resources: {
        ...resourcesOf(only(optional(container["resources"]), "requests", "limits")),
        oomScoreAdj: BigInt(String(spec["priorityClassName"]).startsWith("system-node") ? -997 : 1000),
      },
      securityContext: {
        privileged: context["privileged"] === true,
        capabilities: {
          addCapabilities: texts(capabilities["add"]),
          dropCapabilities: texts(capabilities["drop"]),
        },
        namespaceOptions: { network: 0, pid: 1, ipc: 0 },
        ...(context["runAsUser"] === undefined
          ? {}
          : { runAsUser: { value: BigInt(Number(context["runAsUser"])) } }),
        ...(context["runAsGroup"] === undefined
          ? {}
          : { runAsGroup: { value: BigInt(Number(context["runAsGroup"])) } }),
        readonlyRootfs: context["readOnlyRootFilesystem"] === true,
        noNewPrivs: context["allowPrivilegeEscalation"] === false,
        maskedPaths,
        readonlyPaths,
        seccomp: profileOf(context["seccompProfile"]),
        apparmor: profileOf(context["appArmorProfile"]),
      },
    },
  };
}

/** Without a profile a pod is unconfined. */
function profileOf(value: unknown): { profileType: number } {
  const type = only(optional(value), "type")["type"] ?? "Unconfined";
  const profileType = ["RuntimeDefault", "Unconfined"].indexOf(String(type));
  if (profileType < 0) throw new Error(`no such profile: ${type}`);
  return { profileType };
}

function variableOf(each: Mapping, fields: Readonly<Record<string, string>>): string {
  only(each, "name", "value", "valueFrom");
  if (each["value"] !== undefined) return text(each["value"]);
  const from = only(mapping(each["valueFrom"]), "fieldRef");
  const path = text(only(mapping(from["fieldRef"]), "apiVersion", "fieldPath")["fieldPath"]);
  const value = fields[path];
  if (value === undefined) throw new Error(`no such field of a pod: ${path}`);
  return value;
}

const propagations = ["None", "HostToContainer", "Bidirectional"];

function mountOf(mount: Mapping, volumes: ReadonlyMap<string, string>) {
  only(mount, "name", "mountPath", "mountPropagation", "readOnly");
  const hostPath = volumes.get(text(mount["name"]));
  const propagation = propagations.indexOf(String(mount["mountPropagation"] ?? "None"));
  if (hostPath === undefined || propagation < 0) throw new Error(`no such mount: ${JSON.stringify(mount)}`);
  return {
    containerPath: text(mount["mountPath"]),
    hostPath,
    readonly: mount["readOnly"] === true,
    propagation,
  };
}

function placeVolumes(
  node: BootedNode,
  folder: string,
  volumes: readonly Mapping[],
  documents: readonly Mapping[],
): Map<string, string> {
  return new Map(
    volumes.map((volume) => {
      only(volume, "name", "hostPath", "configMap", "emptyDir");
      const name = text(volume["name"]);
      if (volume["hostPath"] !== undefined) return [name, hostPathOf(node, mapping(volume["hostPath"]))];
      const path = `${folder}/volumes/${name}`;
      node.run(["mkdir", "-p", path]);
      if (volume["configMap"] !== undefined) placeConfigMap(node, path, volume["configMap"], documents);
      return [name, path];
    }),
  );
}

function hostPathOf(node: BootedNode, value: Mapping): string {
  const { path, type } = only(value, "path", "type");
  if (type === "DirectoryOrCreate") node.run(["mkdir", "-p", text(path)]);
  else if (type !== "Directory") throw new Error(`not a folder: ${path}`);
  if (node.run(["test", "-d", text(path)]).code !== 0)
    throw new Error(`hostPath type check failed: ${path} is not a directory`);
  return text(path);
}

/** By links that turn at once, as the kubelet's atomic writer places them. */
function placeConfigMap(node: BootedNode, path: string, value: unknown, documents: readonly Mapping[]): void {
  const name = text(only(mapping(value), "name")["name"]);
  const found = documents.find(
    (document) => document["kind"] === "ConfigMap" && mapping(document["metadata"])["name"] === name,
  );
  const data = Object.entries(mapping(found?.["data"]));
  for (const [file, content] of data) node.place(`${path}/..1/${file}`, text(content));
  node.run(["ln", "-s", "..1", `${path}/..data`]);
  for (const [file] of data) node.run(["ln", "-s", `..data/${file}`, `${path}/${file}`]);
}

function resourcesOf({ requests, limits }: Mapping) {
  const { cpu: share } = only(optional(requests), "cpu", "memory");
  const { cpu, memory } = only(optional(limits), "cpu", "memory");
  return {
    ...(share === undefined ? {} : { cpuShares: BigInt(Math.round(cpus(share) * 1024)) }),
    ...(cpu === undefined ? {} : { cpuPeriod: 100_000n, cpuQuota: BigInt(Math.round(cpus(cpu) * 100_000)) }),
    ...(memory === undefined ? {} : { memoryLimitInBytes: bytes(text(memory)) }),
  };
}

function cpus(quantity: unknown): number {
  const words = String(quantity);
  return words.endsWith("m") ? Number(words.slice(0, -1)) / 1000 : Number(words);
}

function bytes(quantity: string): bigint {
  const [, count = "", unit = ""] = /^(\d+)(Ki|Mi|Gi)$/.exec(quantity) ?? [];
  return BigInt(count) << BigInt({ Ki: 10, Mi: 20, Gi: 30 }[unit] ?? 0);
}

function probesOf(container: Mapping): Pod["probes"] {
  const ports = new Map(
    list(container["ports"]).map(({ name, containerPort }) => [name, Number(containerPort)]),
  );
  return Object.fromEntries(
    ["startupProbe", "livenessProbe", "readinessProbe"].flatMap((kind) => {
      if (container[kind] === undefined) return [];
      const { path, port } = only(mapping(mapping(container[kind])["httpGet"]), "path", "port");
      return [[kind, { path: text(path), port: ports.get(port) ?? Number(port) }]];
    }),
  );
}

/** Asks again while the engine is away, as a kubelet does: what these pods are for is that it restarts. */
async function patiently<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  for (let tries = 0; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      const { code } = ConnectError.from(error);
      const isAway = code === Code.Internal || code === Code.Unavailable || code === Code.Aborted;
      if (!isAway || tries === 200) throw error;
      await sleep(50);
    }
  }
}

/** In what a verbose status tells. */
function pidIn(info: string | undefined): number {
  const pid = Number((JSON.parse(info ?? "{}") as { pid?: number }).pid);
  if (!(pid > 0)) throw new Error("the engine tells no process");
  return pid;
}

/**
 * A pod network that is nothing but its loopback: minimal nodes have no plugins, and no cluster is here. Each pod has
 * a namespace of its own all the same.
 */
export function placeNetwork(node: BootedNode): void {
  const plugin = `#!/bin/sh
up='socket(S, 2, 2, 0); my $r = pack("a16 s x22", "lo", 0x41); ioctl(S, 0x8914, $r) or die $!'
case $CNI_COMMAND in
ADD)
  nsenter --net="$CNI_NETNS" perl -e "$up" || exit
  echo '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"version":"4","address":"127.0.0.1/8","interface":0}]}'
  ;;
VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}' ;;
esac
`;
  for (const name of ["loopback", "pod"]) node.place(`/usr/lib/cni/${name}`, plugin, "755");
  const network = { cniVersion: "0.4.0", name: "pod", plugins: [{ type: "pod" }] };
  node.place("/etc/cni/net.d/10-pod.conflist", JSON.stringify(network));
}
