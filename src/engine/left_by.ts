import type { EngineName, EngineState, ForeignDefinition } from "./backend.ts";

/** Something that another tool has put into the engine's configuration. */
export interface LeftBy {
  readonly tool: Tool;
  /** In which of its ways the tool wrote it. */
  readonly mode: string;
  readonly path: string;
  /** Those of its handlers that this file defines. */
  readonly handlers: readonly string[];
  /** The copy that the tool made before it edited the file, and would bring back. */
  readonly backup?: string;
}

type Tool = "kata-deploy" | "nvidia-ctk";

interface FileRule {
  readonly tool: Tool;
  readonly engine: EngineName;
  readonly mode: string;
  readonly path: RegExp;
}

/**
 * Files that only one tool writes, by their names: kata-containers 4.1.0,
 * tools/packaging/kata-deploy/binary/src/runtime/{manager,containerd,crio}.rs; NVIDIA/nvidia-container-toolkit 1.20,
 * cmd/nvidia-ctk/runtime/configure/configure.go, and gpu-operator, controllers/object_controls.go.
 */
const fileRules: readonly FileRule[] = [
  kata("containerd", "drop-in", /\/containerd\/config\.d\/kata-deploy\.toml$/),
  kata("containerd", "drop-in in conf.d", /\/conf\.d\/kata-deploy(-[^/]+)?\.toml$/),
  kata("containerd", "drop-in of k3s or rke2", /\/config(-v3)?\.toml\.d\/kata-deploy\.toml$/),
  kata("containerd", "drop-in of k0s", /\/containerd\.d\/kata-deploy\.toml$/),
  kata("containerd", "user drop-in", /\/zz-kata-deploy-user\.toml$/),
  kata("crio", "drop-in", /\/crio\.conf\.d\/99-kata-deploy(-[^/]+)?$/),
  kata("crio", "debug drop-in", /\/crio\.conf\.d\/100-debug$/),
  nvidia("containerd", /\/conf\.d\/99-nvidia\.toml$/),
  nvidia("crio", /\/crio\.conf\.d\/99-nvidia\.(toml|conf)$/),
];

function kata(engine: EngineName, mode: string, path: RegExp): FileRule {
  return { tool: "kata-deploy", engine, mode, path };
}

function nvidia(engine: EngineName, path: RegExp): FileRule {
  return { tool: "nvidia-ctk", engine, mode: "drop-in", path };
}

/** What kata-deploy and nvidia-ctk have left, in their own files and in those of the administrator. */
export function leftBy(state: EngineState, exists: (path: string) => boolean): LeftBy[] {
  const { engine, loaded, foreign, imports } = state;
  const ruleOf = (path: string) => fileRules.find((rule) => rule.engine === engine && rule.path.test(path));
  const inFile = (path: string) => foreign.filter((definition) => definition.path === path);

  const files = loaded.flatMap((path): LeftBy[] => {
    const rule = ruleOf(path);
    if (rule === undefined) return [];
    // nvidia-ctk copies every handler of the node into its file; kata-deploy writes its own alone.
    const own = inFile(path).filter((each) => rule.tool === "kata-deploy" || toolOf(each) === rule.tool);
    return [{ tool: rule.tool, mode: rule.mode, path, handlers: namesOf(own) }];
  });
  const lines = imports.flatMap(({ path, from }): LeftBy[] => {
    const rule = ruleOf(path);
    return rule === undefined ? [] : [{ tool: rule.tool, mode: "import", path: from, handlers: [] }];
  });
  const edited = loaded
    .filter((path) => ruleOf(path) === undefined)
    .flatMap((path) =>
      (["kata-deploy", "nvidia-ctk"] as const).flatMap((tool): LeftBy[] => {
        const own = inFile(path).filter((definition) => toolOf(definition) === tool);
        if (own.length === 0) return [];
        const isKata = tool === "kata-deploy" && engine === "containerd";
        const backup = `${path}.bak`;
        const hasBackup = isKata && exists(backup);
        // Its uninstall removes a file with this mark beside it, whatever else is in it by then.
        const made = isKata && !hasBackup && exists(`${path}.kata-deploy-created`);
        const mode = made ? "file that it made" : "edited file";
        const entry = { tool, mode, path, handlers: namesOf(own) };
        return [hasBackup ? { ...entry, backup } : entry];
      }),
    );
  return [...files, ...lines, ...edited];
}

/** The tool that writes definitions of this shape. */
function toolOf({ name, runtimeType, programs }: ForeignDefinition): Tool | undefined {
  const names = (pattern: RegExp) => programs.some((program) => pattern.test(program));
  const isKataType = runtimeType === `io.containerd.${name}.v2` || runtimeType === "vm";
  if (isKataType && names(/\/opt\/kata(-[^/]+)?\/(runtime-rs\/)?bin\/containerd-shim-kata-v2$/))
    return "kata-deploy";
  return names(/\/nvidia-container-runtime(\.cdi|\.legacy)?$/) ? "nvidia-ctk" : undefined;
}

function namesOf(definitions: readonly ForeignDefinition[]): string[] {
  return [...new Set(definitions.map(({ name }) => name))].sort();
}
