import type { Backend, EngineView, FileEdit, Site, Source } from "../../src/engine/backend.ts";
import { containerd } from "../../src/engine/containerd/backend.ts";
import type { Handler } from "../../src/handler/model.ts";
import { allPresets } from "../../src/handler/presets/registry.ts";
import { resolvePreset } from "../../src/handler/resolve.ts";
import type { HostFiles } from "../../src/host/host.ts";
import { parseVersion } from "../../src/layout/detect.ts";
import { readEngine } from "../../src/transaction/gather.ts";

/** A node's files in memory, for what is pure. */
export class MemoryNode {
  readonly files = new Map<string, Uint8Array>();
  readonly site: Site;
  readonly backend: Backend;

  constructor(
    version: string | undefined,
    files: Readonly<Record<string, string | Uint8Array>>,
    rootFile = "/etc/containerd/config.toml",
    backend: Backend = containerd,
    source?: Source,
  ) {
    this.backend = backend;
    for (const [path, content] of Object.entries(files)) this.write(path, content);
    this.site = {
      layout: "vanilla",
      rootFile,
      version: version === undefined ? undefined : parseVersion(version),
      ...(source === undefined ? {} : { source }),
    };
  }

  write(path: string, content: string | Uint8Array): void {
    this.files.set(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
  }

  text(path = this.site.rootFile): string | undefined {
    const bytes = this.files.get(path);
    return bytes === undefined ? undefined : new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  /** Every file as text, for comparing whole trees. */
  tree(): Record<string, string> {
    return Object.fromEntries([...this.files.keys()].sort().map((path) => [path, this.text(path) ?? ""]));
  }

  get host(): HostFiles {
    const paths = () => [...this.files.keys()];
    const isFolder = (path: string) =>
      paths().some((file) => file.startsWith(`${path === "/" ? "" : path}/`));
    return {
      root: "/",
      read: (path) => {
        const bytes = this.files.get(path);
        if (bytes !== undefined)
          return { kind: "file", path, resolved: path, bytes, mode: 0o644, uid: 0, gid: 0, nlink: 1 };
        return isFolder(path)
          ? { kind: "other", path, what: "directory" }
          : { kind: "absent", path, resolved: path, dangling: false };
      },
      list: (path) => {
        if (!isFolder(path)) return undefined;
        const prefix = path === "/" ? "/" : `${path}/`;
        return [
          ...new Set(
            paths()
              .filter((file) => file.startsWith(prefix))
              .map((file) => file.slice(prefix.length).split("/")[0] ?? ""),
          ),
        ].sort();
      },
      exists: (path) => this.files.has(path) || isFolder(path),
      isExecutable: (path) => this.files.has(path),
    };
  }

  view(): EngineView {
    return readEngine(this.host, this.backend, this.site).view;
  }

  /** Makes edits, one after the other, as the transaction would. */
  make(edits: readonly FileEdit[]): void {
    for (const edit of edits) {
      if (edit.after === null) this.files.delete(edit.path);
      else this.files.set(edit.path, edit.after);
    }
  }

  install(owner: string, names: readonly string[]): FileEdit[] {
    const view = this.view();
    const kept = view.handlersOf(owner).filter((handler) => !names.includes(handler.name));
    const edits = view.plan(owner, [...kept, ...names.map((name) => handler(name))]);
    this.make(edits);
    return edits;
  }

  uninstall(owner: string): FileEdit[] {
    const edits = this.view().plan(owner, []);
    this.make(edits);
    return edits;
  }
}

/** A preset's handler, as on a host that has everything at its first candidate. */
export function handler(name: string): Handler {
  const preset = allPresets().find((candidate) => candidate.name === name);
  if (preset === undefined) throw new Error(`no preset ${name}`);
  return resolvePreset(preset, name, { prefix: undefined, snapshotter: undefined, exists: () => false });
}
