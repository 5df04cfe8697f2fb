import type { EngineName } from "../../src/engine/backend.ts";

/** One engine and release, for tests of what is the same whichever it is. */
export interface EngineCase {
  /** As test names call it. */
  readonly name: string;
  readonly engine: EngineName;
  readonly version: string;
  /** What `--config` names by default. */
  readonly rootFile: string;
  /** The administrator's files, by path. */
  readonly files: Readonly<Record<string, string>>;
  /** The one of them that defines a handler, and that handler. */
  readonly main: string;
  readonly theirs: string;
  /** What the engine loads: every file of these folders whose name ends so. */
  readonly loads: readonly { readonly folder: string; readonly suffix: string }[];
  /** The file in which an owner's handlers end up. */
  block(owner: string): string;
  /** Where temporary files for it may stand: the engine looks at none of them there. */
  readonly tempFolder: string;
  /** Handlers that this release accepts and the administrator has not defined. */
  readonly handlers: readonly [string, string, string, ...string[]];
  /** The table of a handler, as an administrator would add it to their file. */
  define(handler: string): string;
  /** What makes a handler the default one: text to add to the end of a file. */
  makeDefault(handler: string): { readonly path: string; readonly text: string };
  /** The key that does it, as people know it. */
  readonly defaultKey: string;
  /** The key by which a Kata handler names its configuration. */
  readonly configKey: string;
  /** What is said of a file that cannot be read. */
  unreadable(reason: string): string;
  /** A root file that shimctl refuses to work with, for its first line. */
  readonly unsupported: string;
}

const secret = "hunter2-canary";

function containerd(
  version: string,
  plugin: string,
  own: Pick<EngineCase, "files" | "block" | "tempFolder">,
) {
  const main = "/etc/containerd/config.toml";
  return {
    name: `containerd ${version}`,
    engine: "containerd",
    version,
    rootFile: main,
    main,
    theirs: "runc",
    loads: [
      { folder: "/etc/containerd", suffix: ".toml" },
      { folder: "/etc/containerd/conf.d", suffix: ".toml" },
    ],
    handlers: ["kata-qemu", "runsc", "crun", "kata-clh", "nvidia"],
    define: (handler) =>
      `[plugins.'${plugin}'.containerd.runtimes.${handler}]\n  runtime_type = "io.containerd.${handler}.v1"\n`,
    makeDefault: (handler) => ({
      path: main,
      text: `\n[plugins.'${plugin}'.containerd]\ndefault_runtime_name = "${handler}"\n`,
    }),
    defaultKey: "default_runtime_name",
    configKey: "ConfigPath",
    unreadable: (reason) => `Cannot read the engine's configuration file, as ${reason}\n`,
    unsupported: "root = '/x'\n",
    ...own,
  } satisfies EngineCase;
}

/** A marked block in the one file; it ends as `containerd config default` does. */
const marked = containerd("1.7.24", "io.containerd.grpc.v1.cri", {
  files: {
    "/etc/containerd/config.toml": `# the platform team's
version = 2

[plugins."io.containerd.grpc.v1.cri".registry.configs."r.example.com".auth]
  password = "${secret}" # of the robot

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[timeouts]
  "io.containerd.timeout.shim.cleanup" = "5s"
  "io.containerd.timeout.shim.load" = "5s"
  "io.containerd.timeout.shim.shutdown" = "3s"
`,
  },
  block: () => "/etc/containerd/config.toml",
  tempFolder: "/etc/containerd",
});

/** A drop-in for each owner, and an import of them all. */
const imported = containerd("2.1.9", "io.containerd.cri.v1.runtime", {
  files: {
    "/etc/containerd/config.toml": `# the platform team's
version = 3

[plugins.'io.containerd.cri.v1.images'.registry.configs.'r.example.com'.auth]
  password = "${secret}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`,
  },
  block: (owner) => `/etc/containerd/conf.d/50-shimctl-${owner}.toml`,
  tempFolder: "/etc/containerd/conf.d",
});

/** A drop-in for each owner, in a folder of which the engine reads every file. */
const crio: EngineCase = {
  name: "CRI-O 1.36.3",
  engine: "crio",
  version: "1.36.3",
  rootFile: "/etc/crio/crio.conf",
  files: {
    "/etc/crio/crio.conf": `# the platform team's
[crio.runtime]
log_level = "info"
default_env = [
  "HTTPS_PROXY=http://robot:${secret}@proxy.example.com:3128", # of the robot
]
`,
    "/etc/crio/crio.conf.d/10-crio.conf": `# as packaged
[crio.image]
signature_policy = "/etc/crio/policy.json"

[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "/usr/bin/crun"
monitor_path = "/usr/bin/conmon"
`,
  },
  main: "/etc/crio/crio.conf.d/10-crio.conf",
  theirs: "crun",
  loads: [
    { folder: "/etc/crio", suffix: "crio.conf" },
    { folder: "/etc/crio/crio.conf.d", suffix: "" },
  ],
  block: (owner) => `/etc/crio/crio.conf.d/50-shimctl-${owner}.conf`,
  tempFolder: "/etc/crio",
  // This release ignores gVisor's shim for its name, and crun is the administrator's.
  handlers: ["kata-qemu", "kata-clh", "nvidia", "kata-fc"],
  define: (handler) => `[crio.runtime.runtimes.${handler}]\nruntime_path = "/usr/bin/crun"\n`,
  makeDefault: (handler) => ({
    path: "/etc/crio/crio.conf.d/99-default.conf",
    text: `[crio.runtime]\ndefault_runtime = "${handler}"\n`,
  }),
  defaultKey: "default_runtime",
  configKey: "runtime_config_path",
  unreadable: (reason) => `CRI-O does not start on this entry, as ${reason}`,
  unsupported: "[Crio.runtime]\n",
};

export const engineCases: readonly EngineCase[] = [marked, imported, crio];

export { crio as crioCase, imported as importedCase, marked as markedCase };
