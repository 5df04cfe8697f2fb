import { everyNode, hostRoot, type Mount, type NodeKind } from "./mounts.ts";
import type { Value } from "./yaml.ts";

/** A Kubernetes object, or a part of one. */
export type Part = { readonly [key: string]: Value };

/** What is stamped on a pod when its manifest is made: all pods of one roll-out are the same incarnation. */
export interface Stamp {
  readonly epoch: string;
  readonly instance: string;
}

/** What a manifest is made from. */
export interface Wanted {
  readonly image: string;
  readonly owner: string;
  readonly stamp: Stamp;
  /** Of the kind of node, and where its handlers' files are. */
  readonly mounts: readonly Mount[];
  /** Capabilities that only this kind of node asks for. */
  readonly capabilities: readonly string[];
}

/** Where everything is. */
export const namespace = "shimctl-system";
/** Nodes with this label, and this value, get the pod: it selects a wave of the roll-out. */
export const waveLabel = "shimctl/wave";
/** Where the stamp is, on the pod's template. */
export const annotations = { epoch: "shimctl/epoch", instance: "shimctl/instance" } as const;
/** The folder of the handler file, in the container. */
const handlersFolder = "/etc/shimctl";
/** What the DaemonSet asks for as, unless somebody says otherwise: a person is `default`. */
export const clusterOwner = "cluster";
const port = 8080;

const toolLabel: Part = { "app.kubernetes.io/name": "shimctl" };

function meta(name: string, labels: Part = toolLabel): Part {
  return { name, namespace, labels };
}

function labelsOf(component: string, owner: string): Part {
  return {
    ...toolLabel,
    "app.kubernetes.io/component": component,
    "app.kubernetes.io/instance": owner,
  };
}

/** The DaemonSet of an owner: one of the same name would take the place of another owner's, whose handlers nobody held then. */
export function daemonSetName(owner: string): string {
  return owner === clusterOwner ? "shimctl" : `shimctl-${owner}`;
}

/**
 * Pod Security of the namespace: baseline and restricted forbid every hostPath volume, and the pod is there to change
 * files of the node (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
 */
export function namespaceObject(): Part {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: {
      name: namespace,
      labels: { ...toolLabel, "pod-security.kubernetes.io/enforce": "privileged" },
    },
  };
}

/** An account without any rights, whose token no pod gets. */
export function serviceAccount(): Part {
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: meta("shimctl"),
    automountServiceAccountToken: false,
  };
}

/**
 * The handler file. Its name changes with its content, and nothing changes it in place: the kubelet would give another
 * one to every pod of the cluster within a minute, past every wave.
 */
export function handlersObject(name: string, toml: string): Part {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: meta(name),
    immutable: true,
    data: { "handlers.toml": toml },
  };
}

/** `shimctl watch` on every node of the wave. */
export function watchDaemonSet(wanted: Wanted, handlers: string): Part {
  const container: Part = {
    ...containerOf(wanted, [
      "watch",
      "--root=/host",
      `--file=${handlersFolder}/handlers.toml`,
      `--owner=${wanted.owner}`,
      `--listen=:${port}`,
      "--stagger=30m",
    ]),
    ports: [{ name: "http", containerPort: port }],
    // It answers while the engine is restarted, and while it waits for that: only a hang makes it stop answering.
    startupProbe: { ...get("/healthz"), periodSeconds: 2, failureThreshold: 30, timeoutSeconds: 5 },
    livenessProbe: { ...get("/healthz"), periodSeconds: 30, failureThreshold: 10, timeoutSeconds: 10 },
    readinessProbe: { ...get("/readyz"), periodSeconds: 10, failureThreshold: 3, timeoutSeconds: 5 },
  };
  return daemonSet(daemonSetName(wanted.owner), "watch", wanted, {
    ...scheduling(),
    // It ends within a second; a run that it has begun is finished or undone by the next one.
    terminationGracePeriodSeconds: 15,
    containers: [withHandlers(container)],
    volumes: [...volumesOf(wanted), { name: "handlers", configMap: { name: handlers } }],
  });
}

/** `shimctl install` once on every node of the wave; then the cluster's own pause image holds the pod. */
export function oneshotDaemonSet(wanted: Wanted, handlers: string, pause: string): Part {
  return daemonSet("shimctl-oneshot", "oneshot", wanted, {
    ...scheduling(),
    terminationGracePeriodSeconds: graceSeconds,
    initContainers: [
      withHandlers(
        containerOf(wanted, [
          "install",
          "--root=/host",
          `--file=${handlersFolder}/handlers.toml`,
          `--owner=${wanted.owner}`,
        ]),
      ),
    ],
    containers: [pauseContainer(pause)],
    volumes: [...volumesOf(wanted), { name: "handlers", configMap: { name: handlers } }],
  });
}

/** `shimctl uninstall --all` once on every node, whatever its taints, labels and role. */
export function uninstallDaemonSet(wanted: Wanted, pause: string): Part {
  return daemonSet("shimctl-uninstall", "uninstall", wanted, {
    nodeSelector: { "kubernetes.io/os": "linux" },
    tolerations: [{ operator: "Exists" }],
    terminationGracePeriodSeconds: graceSeconds,
    initContainers: [containerOf(wanted, uninstallArgs(wanted, []))],
    containers: [pauseContainer(pause)],
    volumes: volumesOf(wanted),
  });
}

/**
 * `shimctl uninstall` on one node. It is put there without the scheduler, so that a cordoned or full node is no
 * obstacle.
 * @param handlers those to remove; none: all of the owner
 */
export function uninstallJob(wanted: Wanted, node: string, handlers: readonly string[], name: string): Part {
  const labels = labelsOf("uninstall-node", wanted.owner);
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: meta(name, labels),
    spec: {
      backoffLimit: 5,
      activeDeadlineSeconds: 3_600,
      ttlSecondsAfterFinished: 86_400,
      // Another try helps only where the lock was taken, pods use a handler, or the engine was slow. A pod that was evicted
      // has failed by nothing of its own.
      podFailurePolicy: {
        rules: [
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
          { action: "FailJob", onExitCodes: { containerName, operator: "In", values: [2, 3, 6, 7, 8, 12] } },
        ],
      },
      template: {
        metadata: { labels, annotations: stamped(wanted.stamp) },
        spec: {
          ...podSpec(),
          restartPolicy: "Never",
          nodeName: node,
          tolerations: [{ operator: "Exists" }],
          terminationGracePeriodSeconds: graceSeconds,
          containers: [containerOf(wanted, uninstallArgs(wanted, handlers))],
          volumes: volumesOf(wanted),
        },
      },
    },
  };
}

/** For what has begun to come to its end, which may be an undo with a restart. */
const graceSeconds = 60;

/** The same everywhere, so that whoever changes a pod finds it. */
export const containerName = "shimctl";

function uninstallArgs({ owner }: Wanted, handlers: readonly string[]): string[] {
  return ["uninstall", ...(handlers.length === 0 ? ["--all"] : handlers), "--root=/host", `--owner=${owner}`];
}

/** No control-plane node: an engine that is restarted there, or does not come back, takes the API along. */
function scheduling(): Part {
  return {
    nodeSelector: { "kubernetes.io/os": "linux", [waveLabel]: "1" },
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [
            {
              matchExpressions: ["control-plane", "master"].map((role) => ({
                key: `node-role.kubernetes.io/${role}`,
                operator: "DoesNotExist",
              })),
            },
          ],
        },
      },
    },
  };
}

function daemonSet(name: string, component: string, { owner, stamp }: Wanted, spec: Part): Part {
  const labels = labelsOf(component, owner);
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: meta(name, labels),
    spec: {
      selector: { matchLabels: labels },
      minReadySeconds: 10,
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
      template: {
        metadata: { labels, annotations: stamped(stamp) },
        spec: { ...podSpec(), ...spec },
      },
    },
  };
}

function stamped({ epoch, instance }: Stamp): Part {
  return {
    // Which of several containers `kubectl logs` shows.
    "kubectl.kubernetes.io/default-container": containerName,
    [annotations.epoch]: epoch,
    [annotations.instance]: instance,
  };
}

/** Each exception that stands here is one of docs/pod-security.md. */
function podSpec(): Part {
  return {
    serviceAccountName: "shimctl",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    priorityClassName: "system-node-critical",
    securityContext: {
      // The files that it changes, and the sockets that it talks to, are root's.
      runAsUser: 0,
      runAsGroup: 0,
      seccompProfile: { type: "RuntimeDefault" },
      // The engines' own profile has no rule for D-Bus, so that the bus of an Ubuntu node refuses whoever it confines.
      appArmorProfile: { type: "Unconfined" },
      // Only for nodes with SELinux, where any other type may neither write files of the node nor talk to its sockets.
      seLinuxOptions: { type: "spc_t" },
    },
  };
}

function containerOf({ image, mounts, capabilities }: Wanted, args: readonly string[]): Part {
  return {
    name: containerName,
    image,
    imagePullPolicy: "IfNotPresent",
    args,
    env: [
      fromPod("SHIMCTL_EPOCH", `metadata.annotations['${annotations.epoch}']`),
      fromPod("SHIMCTL_INSTANCE", `metadata.annotations['${annotations.instance}']`),
      fromPod("SHIMCTL_NODE_NAME", "spec.nodeName"),
    ],
    resources: {
      requests: { cpu: "10m", memory: "32Mi" },
      limits: { cpu: "1", memory: "256Mi" },
    },
    securityContext:
      capabilities.length === 0
        ? confined
        : { ...confined, capabilities: { drop: ["ALL"], add: capabilities } },
    terminationMessagePolicy: "FallbackToLogsOnError",
    volumeMounts: mountsOf(mounts),
  };
}

/** Files of root's need no capability of root's. */
const confined: Part = {
  privileged: false,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
};

function pauseContainer(image: string): Part {
  return {
    name: "pause",
    image,
    imagePullPolicy: "IfNotPresent",
    resources: { requests: { cpu: "1m", memory: "4Mi" }, limits: { cpu: "10m", memory: "16Mi" } },
    // As nobody: it needs nothing.
    securityContext: { ...confined, runAsUser: 65_534, runAsGroup: 65_534 },
  };
}

function fromPod(name: string, fieldPath: string): Part {
  return { name, valueFrom: { fieldRef: { fieldPath } } };
}

function get(path: string): { httpGet: Part } {
  return { httpGet: { path, port: "http" } };
}

/** What is put on top of a folder of the node after the pod has started is seen in it, and goes when it goes there. */
export function mountsOf(mounts: readonly Mount[]): Part[] {
  return mounts.map(({ name, path, writes }) => ({
    name,
    mountPath: `${hostRoot}${path}`,
    mountPropagation: "HostToContainer",
    ...(writes === true ? {} : { readOnly: true }),
  }));
}

export function hostVolumes(mounts: readonly Mount[]): Part[] {
  return mounts.map(({ name, path, makes }) => ({
    name,
    hostPath: { path, type: makes === true ? "DirectoryOrCreate" : "Directory" },
  }));
}

function volumesOf({ mounts }: Wanted): Part[] {
  return hostVolumes(mounts);
}

function withHandlers(container: Part): Part {
  const { volumeMounts } = container;
  return {
    ...container,
    volumeMounts: [
      ...(Array.isArray(volumeMounts) ? (volumeMounts as readonly Value[]) : []),
      { name: "handlers", mountPath: handlersFolder, readOnly: true },
    ],
  };
}

/** What every node has, then what this kind has. */
export function allMounts(kind: Pick<NodeKind, "mounts">): readonly Mount[] {
  return [...everyNode, ...kind.mounts];
}
