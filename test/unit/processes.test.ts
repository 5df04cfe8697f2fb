import { afterAll, expect, test } from "bun:test";
import { chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { runningDaemons, unitIn } from "../../src/host/processes.ts";
import { type Daemon, runs } from "../../src/layout/layout.ts";

const root = mkdtempSync(`${tmpdir()}/shimctl-proc-`);
afterAll(() => rmSync(root, { recursive: true }));
const elsewhere = `${root}/elsewhere`;
mkdirSync(elsewhere);

interface Made {
  readonly argv: readonly string[];
  readonly unit?: string;
  readonly parent?: number;
  readonly root?: string;
  readonly environ?: string;
}

let made = 0;

/** A made-up /proc with these processes. */
function procWith(processes: Readonly<Record<number, Made>>): string {
  const proc = `${root}/proc-${made++}`;
  for (const [pid, { argv, unit, parent = 1, root: at = root, environ = "" }] of Object.entries(processes)) {
    const folder = `${proc}/${pid}`;
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${folder}/cmdline`, argv.map((word) => `${word}\0`).join(""));
    writeFileSync(`${folder}/cgroup`, `0::/system.slice/${unit ?? "session.scope"}\n`);
    writeFileSync(`${folder}/stat`, `${pid} (a) b) S ${parent} 1 1`);
    writeFileSync(`${folder}/comm`, `${argv[0]?.slice(argv[0].lastIndexOf("/") + 1)}\n`);
    writeFileSync(`${folder}/environ`, environ);
    symlinkSync(at, `${folder}/root`);
  }
  writeFileSync(`${proc}/uptime`, "1");
  return proc;
}

const found = (processes: Readonly<Record<number, Made>>) =>
  runningDaemons(
    { proc: procWith(processes), home: root },
    {
      units: [],
      isOne: (daemon) => runs(daemon, "containerd", "k3s"),
    },
  );

test("daemons are found with their arguments, their variables and their unit", () => {
  const [daemon, ...others] = found({
    12: { argv: ["/usr/bin/containerd", "-c", "", "/x"], unit: "containerd.service", environ: "A=1=2\0B=\0" },
    13: { argv: ["/usr/bin/dockerd"] },
    14: { argv: [] },
  });
  expect(others).toEqual([]);
  expect(daemon).toEqual({
    unit: "containerd.service",
    argv: ["/usr/bin/containerd", "-c", "", "/x"],
    environment: { A: "1=2", B: "" },
    active: true,
    source: "/proc/12",
  });
});

test("those of containers are passed over, as their root is another one", () => {
  expect(
    found({ 12: { argv: ["containerd"], root: elsewhere }, 13: { argv: ["containerd"], root: "/nowhere" } }),
  ).toEqual([]);
});

test.skipIf(process.geteuid?.() !== 0)("those of users are passed over, whatever they are called", () => {
  const proc = procWith({ 12: { argv: ["containerd"] }, 13: { argv: ["containerd"] } });
  chownSync(`${proc}/13`, 65534, 65534);
  const wanted = { units: [], isOne: (daemon: Daemon) => runs(daemon, "containerd") };
  expect(runningDaemons({ proc, home: root }, wanted).map(({ source }) => source)).toEqual(["/proc/12"]);
});

test("those under a user's own service manager are passed over, as their units are no units of the system", () => {
  const user = "user-1000.slice/user@1000.service/app.slice/containerd.service";
  expect(found({ 12: { argv: ["containerd"], unit: user } })).toEqual([]);
});

test("a daemon that another has started, or Docker, is that one's, over any number of processes", () => {
  const daemons = found({
    20: { argv: ["k3s", "server"] },
    21: { argv: ["sh"], parent: 20 },
    22: { argv: ["containerd", "-c", "/x"], parent: 21 },
    30: { argv: ["containerd"], parent: 19 },
    40: { argv: ["/usr/bin/dockerd"] },
    41: { argv: ["containerd", "--config", "/run/docker/containerd.toml"], parent: 40 },
  });
  expect(daemons.map(({ source, startedOne }) => [source, startedOne])).toEqual([
    ["/proc/20", ["containerd", "-c", "/x"]],
    ["/proc/30", undefined],
  ]);
});

test("the unit is the innermost service of either version of control groups", () => {
  expect(unitIn("0::/system.slice/k3s.service/init\n")).toBe("k3s.service");
  expect(
    unitIn("5:memory:/other.service\n1:name=systemd:/machine.slice/a.service/system.slice/b.service\n"),
  ).toBe("b.service");
  expect(unitIn("0::/user.slice/session-1.scope\n")).toBeUndefined();
  expect(unitIn("")).toBeUndefined();
});
