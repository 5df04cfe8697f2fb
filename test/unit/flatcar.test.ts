import { describe, expect, test } from "bun:test";
import type { HostFiles } from "../../src/host/host.ts";
import { flatcar } from "../../src/layout/flatcar.ts";
import type { Daemon } from "../../src/layout/layout.ts";

const shipped = "/usr/share/containerd/config.toml";
const usual = "/etc/containerd/config.toml";
const unit = "/usr/lib/systemd/system/containerd.service";
const own = {
  [unit]: `[Service]\nEnvironment=CONTAINERD_CONFIG=${shipped}\nExecStart=/usr/bin/containerd --config \${CONTAINERD_CONFIG}\n`,
};
const inEtc = (name: string) => `/etc/systemd/system/containerd.service.d/${name}`;
const inRun = (name: string) => `/run/systemd/system/containerd.service.d/${name}`;
const names = (path: string) => `[Service]\nEnvironment=CONTAINERD_CONFIG=${path}\n`;

function hostWith(files: Readonly<Record<string, string>>): HostFiles {
  const paths = Object.keys(files);
  return {
    root: "/",
    read(path) {
      const text = files[path];
      if (text === undefined) return { kind: "absent", path, resolved: path, dangling: false };
      const bytes = new TextEncoder().encode(text);
      return { kind: "file", path, resolved: path, bytes, mode: 0o644, uid: 0, gid: 0, nlink: 1 };
    },
    list(folder) {
      const found = paths.flatMap((path) =>
        path.startsWith(`${folder}/`) ? [path.slice(folder.length + 1)] : [],
      );
      return found.length === 0 ? undefined : found;
    },
    exists: (path) => paths.includes(path),
    isExecutable: () => false,
  };
}

const daemon = (...argv: string[]): Daemon => ({
  unit: "containerd.service",
  argv: ["/usr/bin/containerd", ...argv],
  environment: {},
  active: true,
  source: "made up",
});

describe("which file Flatcar's containerd reads", () => {
  test.each<[string, Record<string, string>, string]>([
    ["that of the image, where nothing can be read", {}, shipped],
    ["that of the image, as it comes", own, shipped],
    ["that of a drop-in, where the unit itself cannot be read", { [inEtc("10.conf")]: names(usual) }, usual],
    ["that of a drop-in", { ...own, [inEtc("10.conf")]: names(usual) }, usual],
    [
      "that of a drop-in in quotes",
      { ...own, [inEtc("10.conf")]: `[Service]\nEnvironment="A=b" "CONTAINERD_CONFIG=${usual}"\n` },
      usual,
    ],
    [
      "that of the last drop-in by name",
      { ...own, [inEtc("10.conf")]: names("/etc/a"), [inRun("20.conf")]: names("/etc/b") },
      "/etc/b",
    ],
    [
      "that of /etc, of two drop-ins of one name",
      { ...own, [inEtc("10.conf")]: names("/etc/a"), [inRun("10.conf")]: names("/etc/b") },
      "/etc/a",
    ],
    ["not that of a file with another ending", { ...own, [inEtc("10.conf.bak")]: names(usual) }, shipped],
    [
      "that of a file of variables",
      {
        ...own,
        [inEtc("10.conf")]: "[Service]\nEnvironmentFile=-/etc/ours\n",
        "/etc/ours": `# ours\nCONTAINERD_CONFIG="/etc/c.toml"\n`,
      },
      "/etc/c.toml",
    ],
    [
      "its usual one, on a command line without",
      { ...own, [inEtc("10.conf")]: "[Service]\nExecStart=\nExecStart=/usr/bin/containerd\n" },
      usual,
    ],
    [
      "that of another command line",
      {
        ...own,
        [inEtc("10.conf")]:
          "[Service]\nExecStart=\nExecStart=/usr/bin/containerd -c /etc/d.toml --log-level debug\n",
      },
      "/etc/d.toml",
    ],
    [
      "that of a line which goes on in the next",
      {
        ...own,
        [inEtc("10.conf")]: `[Service]\nEnvironment=A=b \\\n  CONTAINERD_CONFIG=${usual}\n`,
      },
      usual,
    ],
    [
      "that of a unit in its place",
      {
        ...own,
        "/etc/systemd/system/containerd.service":
          "[Service]\nExecStart=/usr/bin/containerd --config=/etc/e.toml\n",
      },
      "/etc/e.toml",
    ],
    [
      "that of the image, unpacked, before 3760",
      {
        [unit]: `[Service]\nEnvironment=T=/run/torcx CONTAINERD_CONFIG=${shipped}\nExecStart=/usr/bin/containerd --config \${T}\${CONTAINERD_CONFIG}\n`,
      },
      `/run/torcx${shipped}`,
    ],
  ])("%s", (_, files, path) => {
    const host = hostWith(files);
    expect(flatcar.places(host, undefined).rootFile).toBe(path);
    expect(flatcar.refuses?.(host, undefined)?.path).toBe(path.endsWith(shipped) ? path : undefined);
  });

  test.each<[string[], string]>([
    [["--config", usual], usual],
    [["--config", shipped], shipped],
    [["--config=/etc/x.toml"], "/etc/x.toml"],
    [["--config=/etc/x=y.toml"], "/etc/x=y.toml"],
    [["-config", shipped], shipped],
    [["--config", shipped, "-c", usual], usual],
    [[], usual],
    [["--config", "$UNKNOWN"], shipped],
  ])("a daemon's own word counts more than any file: %j", (argv, path) => {
    const host = hostWith({ ...own, [inEtc("10.conf")]: names("/etc/other.toml") });
    expect(flatcar.places(host, daemon(...argv)).rootFile).toBe(path);
  });
});
