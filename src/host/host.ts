/** A regular file as it was read: its bytes and what must survive when it is replaced. */
export interface FileImage {
  readonly kind: "file";
  /** The host path that was asked for. */
  readonly path: string;
  /** The host path behind all symbolic links: the file that is really replaced. */
  readonly resolved: string;
  readonly bytes: Uint8Array;
  /** Permission bits, 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** When its bytes last changed, in milliseconds since 1970. */
  readonly modifiedMs?: number;
  /** The time that the file itself bears (mtime): programs that copy a file can keep it. */
  readonly writtenMs?: number;
  /** The path's last name is a symbolic link: without its target it would lead nowhere. */
  readonly linked?: true;
}

export type Read =
  | FileImage
  /** `dangling`: the path is a symbolic link that leads nowhere; `resolved` is where it leads. */
  | { readonly kind: "absent"; readonly path: string; readonly resolved: string; readonly dangling: boolean }
  /** There, but not a regular file. `linked`: the path's last name is a symbolic link to a folder. */
  | {
      readonly kind: "other";
      readonly path: string;
      readonly what: "directory" | "special";
      readonly linked?: true;
    }
  | { readonly kind: "unreadable"; readonly path: string; readonly reason: string };

/**
 * What the pure rooms may ask of the machine. Every path is a host path: absolute, as the node's own
 * programs see it, and resolved inside `root`, symbolic links included.
 */
export interface HostFiles {
  /** `/` on the node itself, `/host` in a container, any folder for a sandbox. */
  readonly root: string;
  read(path: string): Read;
  /** The names in a folder, in byte order; `undefined` when there is no such folder. */
  list(path: string): string[] | undefined;
  /** Whether the path leads to a file that is executable by somebody. */
  isExecutable(path: string): boolean;
  /** Whether the path, links followed, leads to anything at all. */
  exists(path: string): boolean;
  /**
   * Only where the root is put together from mounts, as in a pod that gets some of the node's folders: where a path
   * leads to, when nothing that is mounted holds that. What is not there may well be on the node.
   */
  readonly unmounted?: (path: string) => string | undefined;
}
