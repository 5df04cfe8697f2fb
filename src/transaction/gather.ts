import type { Backend, EngineView, FileEdit, Site, Snapshot } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { HostFiles, Read } from "../host/host.ts";
import { refuseUnmounted } from "../host/unmounted.ts";

/** More rounds than any chain of imports has; a chain that needs more is a mistake or an attack. */
const roundLimit = 64;

/**
 * Reads everything that the backend asks for.
 * Throws ShimctlError `unsupported-node` where a part of that is not mounted: it may well be on the node.
 */
export function gather(host: HostFiles, backend: Backend, site: Site): Snapshot {
  const files = new Map<string, Read>();
  const folders = new Map<string, readonly string[] | undefined>();
  for (let round = 0; round < roundLimit; round++) {
    const wanted = backend.want(site, { files, folders });
    const newFiles = wanted.files.filter((path) => !files.has(path));
    const newFolders = wanted.folders.filter((path) => !folders.has(path));
    if (newFiles.length === 0 && newFolders.length === 0) return { files, folders };
    refuseUnmounted(host, [...newFiles, ...newFolders.map((folder) => `${folder}/any`)]);
    for (const path of newFiles) files.set(path, host.read(path));
    for (const path of newFolders) folders.set(path, host.list(path));
  }
  throw new ShimctlError(
    "unsupported-config",
    "Cannot follow this configuration's imports, as their chain is too long",
    { path: site.rootFile },
  );
}

/** The same snapshot with edits made, and whatever the edited files lead to. */
export function withEdits(
  host: HostFiles,
  backend: Backend,
  site: Site,
  seen: Snapshot,
  edits: readonly FileEdit[],
): Snapshot {
  const overlay: HostFiles = {
    ...host,
    read: (path) => edited(path) ?? seen.files.get(path) ?? host.read(path),
    list: (path) => listed(path, seen.folders.has(path) ? seen.folders.get(path) : host.list(path)),
  };
  const edited = (path: string): Read | undefined => {
    const edit = edits.find((candidate) => candidate.path === path);
    if (edit === undefined) return undefined;
    if (edit.after === null) return { kind: "absent", path, resolved: path, dangling: false };
    const before = seen.files.get(path);
    const like =
      before?.kind === "file"
        ? before
        : { resolved: path, mode: edit.mode ?? 0o644, uid: 0, gid: 0, nlink: 1 };
    return { ...like, kind: "file", path, bytes: edit.after };
  };
  const listed = (path: string, names: readonly string[] | undefined): string[] | undefined => {
    const here = edits.filter((edit) => edit.path.slice(0, edit.path.lastIndexOf("/")) === path);
    if (here.length === 0) return names === undefined ? undefined : [...names];
    const all = new Set(names ?? []);
    for (const edit of here) {
      const name = edit.path.slice(path.length + 1);
      if (edit.after === null) all.delete(name);
      else all.add(name);
    }
    return [...all].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  };
  return gather(overlay, backend, site);
}

/** Whether everything in a snapshot is on the host as it says, byte for byte. */
export function isStill(host: HostFiles, { files, folders }: Snapshot): boolean {
  return (
    [...files].every(([path, then]) => {
      const now = host.read(path);
      if (now.kind !== "file" || then.kind !== "file") return now.kind === "absent" && then.kind === "absent";
      if (now.resolved !== then.resolved || now.linked !== then.linked) return false;
      return Buffer.compare(now.bytes, then.bytes) === 0;
    }) && [...folders].every(([path, names]) => host.list(path)?.join("/") === names?.join("/"))
  );
}

/** The engine's configuration as it stands. */
export function readEngine(
  host: HostFiles,
  backend: Backend,
  site: Site,
): { seen: Snapshot; view: EngineView } {
  const seen = gather(host, backend, site);
  return { seen, view: backend.read(site, seen) };
}
