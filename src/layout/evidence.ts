import type { HostFiles } from "../host/host.ts";

/** Those of these paths that are on the node. */
export function present(host: HostFiles, paths: readonly string[]): string[] {
  return paths.filter((path) => host.exists(path));
}

/** In which a system says what it is, the first that is there (os-release(5)). */
export const systemFiles = ["/etc/os-release", "/usr/lib/os-release"] as const;

/** The file in which a system says that it is this one (os-release(5)), as evidence; empty where it is another. */
export function isSystem(host: HostFiles, id: string): string[] {
  // The first is a link to the second, which leads nowhere where only /etc is mounted.
  for (const path of systemFiles) {
    const read = host.read(path);
    if (read.kind !== "file") continue;
    const match = /^ID=["']?([\w.-]*)/m.exec(new TextDecoder().decode(read.bytes));
    return match?.[1] === id ? [`${path} (ID=${id})`] : [];
  }
  return [];
}
