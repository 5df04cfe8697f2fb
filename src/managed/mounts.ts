import { ShimctlError } from "../error.ts";

/** One folder of the node that a pod gets, at the same path below /host. */
export interface Mount {
  /** Of the volume: a DNS label. */
  readonly name: string;
  readonly path: string;
  /** Absent: it is only looked at. */
  readonly writes?: true;
  /** It is ours, and made where it is not there yet. Any other has to be there already. */
  readonly makes?: true;
}

/** What one kind of node has, besides what every node has. */
export interface NodeKind {
  readonly name: string;
  readonly title: string;
  readonly engine: "containerd" | "crio";
  /** Layouts that are this kind, by name or family. */
  readonly layouts: readonly string[];
  readonly mounts: readonly Mount[];
  /** Absent: none, as every file is root's. */
  readonly capabilities?: readonly string[];
}

/**
 * Folders, as a mounted file stays the one that it was when another is put in its place, and a socket the one of the
 * engine that was restarted. They are the same for every engine: what is ours, the bus by which the engine is
 * restarted, what names the system, and where runtimes are installed. `/usr` and `/opt` are on every node, while a
 * folder within that is not there would keep the pod from starting.
 */
export const everyNode: readonly Mount[] = [
  { name: "state", path: "/var/lib/shimctl", writes: true, makes: true },
  { name: "lock", path: "/run/shimctl", writes: true, makes: true },
  { name: "shared-lock", path: "/run/lock", writes: true },
  { name: "bus", path: "/run/dbus" },
  { name: "programs", path: "/usr" },
  { name: "runtimes", path: "/opt" },
];

/** The engine's configuration, and the folder of its CRI socket: to connect to a socket writes nothing. */
export const nodeKinds: readonly NodeKind[] = [
  {
    name: "containerd",
    title: "containerd from packages",
    engine: "containerd",
    layouts: ["vanilla"],
    mounts: [
      { name: "engine-configuration", path: "/etc/containerd", writes: true },
      { name: "engine-socket", path: "/run/containerd" },
    ],
  },
  {
    name: "crio",
    title: "CRI-O from packages",
    engine: "crio",
    layouts: ["crio"],
    mounts: [
      // Whole, as CRI-O reads crio.conf and crio.conf.d, and what is written there is made beside the folder.
      { name: "engine-configuration", path: "/etc/crio", writes: true },
      { name: "engine-socket", path: "/run/crio" },
    ],
  },
  {
    name: "k3s",
    title: "k3s",
    engine: "containerd",
    layouts: ["k3s", "k3s-agent", "k3s-server"],
    mounts: [
      { name: "engine-configuration", path: "/var/lib/rancher/k3s/agent/etc/containerd", writes: true },
      { name: "engine-socket", path: "/run/k3s/containerd" },
    ],
  },
  {
    name: "rke2",
    title: "RKE2",
    engine: "containerd",
    layouts: ["rke2", "rke2-agent", "rke2-server"],
    mounts: [
      { name: "engine-configuration", path: "/var/lib/rancher/rke2/agent/etc/containerd", writes: true },
      // RKE2's too: the path is fixed in k3s' code.
      { name: "engine-socket", path: "/run/k3s/containerd" },
    ],
  },
  {
    name: "k0s",
    title: "k0s",
    engine: "containerd",
    layouts: ["k0s", "k0s-worker", "k0s-controller"],
    mounts: [
      { name: "engine-configuration", path: "/etc/k0s", writes: true },
      // The merged file of k0s up to 1.35 is there too.
      { name: "engine-socket", path: "/run/k0s" },
      { name: "engine-programs", path: "/var/lib/k0s/bin" },
    ],
  },
  {
    name: "microk8s",
    title: "MicroK8s",
    engine: "containerd",
    layouts: ["microk8s"],
    mounts: [
      // `current` is a link to the folder of a revision, which a refresh turns: only the whole holds both.
      { name: "engine-configuration", path: "/var/snap/microk8s", writes: true },
      { name: "engine-programs", path: "/snap/microk8s" },
    ],
    // Its files belong to the group microk8s, which the new ones are given too (chown(2): of another group, only so).
    capabilities: ["CHOWN"],
  },
];

/** Where the node is, within the container. */
export const hostRoot = "/host";

/**
 * Folders to look into for these files of a handler, besides what is mounted already.
 * @param needs for each need, the places where it may be
 */
export function mountsFor(needs: readonly (readonly string[])[], mounts: readonly Mount[]): Mount[] {
  const seen = mounts.map(({ path }) => path);
  const folders = new Set<string>();
  for (const paths of needs) {
    const [first] = paths;
    if (first === undefined || paths.some((path) => [...seen, ...folders].some((each) => within(path, each))))
      continue;
    folders.add(folderOf(first));
  }
  return [...folders].sort().map((path, at) => ({ name: `handlers-${at + 1}`, path }));
}

/** Folders that hold the node's secrets, or all of it: no pod of ours sees them whole. */
const tooMuch = ["", "/etc", "/root", "/home", "/var", "/var/lib", "/run", "/boot", "/dev", "/proc", "/sys"];

/** Throws `usage` where a pod would be given far more than the file */
function folderOf(path: string): string {
  const folder = path.slice(0, path.lastIndexOf("/"));
  if (!tooMuch.includes(folder)) return folder;
  throw new ShimctlError(
    "usage",
    `Cannot look for this file from a pod, as all of the node's ${folder === "" ? "/" : folder} would be mounted for it: ${path}`,
    { hint: "put it into a folder of its own, and name that in the handler file" },
  );
}

function within(path: string, folder: string): boolean {
  return path.startsWith(`${folder}/`);
}
