import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { parse, stringify } from "smol-toml";
import { type Engine, engines } from "../../build/engines.ts";
import { isTable, tableAt } from "../../src/engine/tables.ts";
import type { TomlTable } from "../../src/toml/parse.ts";
import { Node } from "../support/node.ts";
import { randomOf } from "../support/random.ts";
import {
  type Daemon,
  daemonProblem,
  defaultConfigPath,
  dump,
  handlersOf,
  jailProblem,
  normalise,
  type Output,
  startDaemon,
} from "./harness.ts";

/**
 * Nodes that nobody has thought of, changed by two owners and by others in turn, judged by real engines. A
 * failure names its trial: SHIMCTL_TEST_FUZZ_SEED=<number> begins with that one.
 */
const seconds = Number(process.env["SHIMCTL_TEST_FUZZ_SECONDS"] ?? "60");
const firstSeed = Number(process.env["SHIMCTL_TEST_FUZZ_SEED"] ?? "1");

const problem = jailProblem();
const ready = problem === undefined ? await engines() : [];
if (problem !== undefined) console.log(`(skip) fuzz × engines: ${problem}`);

const v2 = "io.containerd.grpc.v1.cri";
const v3 = "io.containerd.cri.v1.runtime";
const images = "io.containerd.cri.v1.images";
const isOld = (version: string): boolean => version.startsWith("1.");

interface Random {
  int(below: number): number;
  pick<T>(list: readonly [T, ...T[]]): T;
  chance(probability: number): boolean;
}

function random(seed: number): Random {
  const next = randomOf(seed);
  const int = (below: number): number => Math.floor(next() * below);
  return { int, pick: (list) => list[int(list.length)] ?? list[0], chance: (p) => next() < p };
}

interface Sample {
  /** The root file's version; 0 where it says nothing at all. */
  readonly schema: number;
  readonly id: string;
  readonly root: string | undefined;
  readonly files: Readonly<Record<string, string>>;
}

const runcLike = (name: string): boolean => ["runc", "nvidia", "crun"].includes(name);
const typeOf = (name: string): string =>
  runcLike(name) ? "io.containerd.runc.v2" : `io.containerd.${name === "spin" ? "spin" : "kata"}.v2`;

/** The CRI plugin's tables, in one of the ways in which people and tools write them. */
function cri(random: Random, id: string): string {
  const key = (name: string): string =>
    /^[\w-]+$/.test(name) && random.chance(0.9) ? name : random.chance(0.6) ? `"${name}"` : `'${name}'`;
  const header = (...path: string[]): string => {
    const dot = random.chance(0.1) ? " . " : ".";
    const text = ["plugins", id, ...path].map(key).join(dot);
    return `${random.chance(0.3) ? "  ".repeat(path.length) : ""}[${text}]${random.chance(0.15) ? " # kept" : ""}`;
  };
  const names = ["runc", "nvidia", "kata-qemu", "crun", "spin", "a.b"].filter((name) =>
    random.chance(name === "runc" ? 0.6 : name === "nvidia" ? 0.3 : 0.12),
  );
  const driver = `SystemdCgroup = ${random.chance(0.5)}`;
  const named = random.chance(0.5) ? [`default_runtime_name = "${names[0] ?? "runc"}"`] : [];
  const lines: string[] = [];
  if (random.chance(0.5)) lines.push(header(), 'sandbox_image = "registry.k8s.io/pause:3.9"');
  const style = random.pick(["headers", "headers", "headers", "dotted", "inline"]);
  if (style === "dotted") {
    lines.push(header("containerd"), ...named);
    for (const name of names) {
      lines.push(`runtimes.${key(name)}.runtime_type = "${typeOf(name)}"`);
      if (runcLike(name)) lines.push(`runtimes.${key(name)}.options.${driver}`);
    }
  } else if (style === "inline") {
    lines.push(header("containerd"), ...named);
    for (const name of names) lines.push(`runtimes.${key(name)} = { runtime_type = "${typeOf(name)}" }`);
  } else {
    if (named.length > 0) lines.push(header("containerd"), ...named);
    for (const name of names) {
      const table = [header("containerd", "runtimes", name), `runtime_type = '${typeOf(name)}'`];
      if (random.chance(0.2)) table.push('pod_annotations = [\n  "a.*", # why\n  "b.*",\n]');
      const options = runcLike(name) ? [header("containerd", "runtimes", name, "options"), driver] : [];
      lines.push(...(random.chance(0.1) ? [...options, ...table] : [...table, ...options]), "");
    }
  }
  if (random.chance(0.2) && id === v2)
    lines.push(header("registry"), 'config_path = "/etc/containerd/certs.d"');
  if (random.chance(0.3) && id === v3) lines.push(`[plugins."${images}"]`, 'snapshotter = "overlayfs"');
  return lines.join("\n");
}

function other(random: Random): string[] {
  return [
    '[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 0.02\nstartup_delay = "100ms"',
    '[proxy_plugins]\n  [proxy_plugins.nydus]\n    type = "snapshot"\n    address = "/run/n.sock"',
    '[timeouts]\n"io.containerd.timeout.shim.load" = "5s"',
    '[[plugins."io.containerd.service.v1.diff-service".x]]\na = 1\n[[plugins."io.containerd.service.v1.diff-service".x]]\na = 2',
  ].filter(() => random.chance(0.15));
}

function layOut(random: Random, given: string): string {
  let text = given;
  if (random.chance(0.15)) text = text.replaceAll("\n", "\r\n");
  if (random.chance(0.2)) text = text.replace(/\r?\n$/, "");
  if (random.chance(0.1)) text += "\n\n\n";
  if (random.chance(0.1)) text += "# the end";
  return text;
}

const folder = "/etc/containerd/conf.d";
const places = [
  `${folder}/99-nvidia.toml`,
  `${folder}/10-admin.toml`,
  `${folder}/z.toml`,
  "/opt/kata/containerd/config.d/kata-deploy.toml",
  "/etc/containerd/extra.toml",
] as const;

function sample(random: Random, version: string): Sample {
  const old = isOld(version);
  const bare = random.int(12);
  const empty = { schema: 0, id: old ? v2 : v3, files: {} };
  if (bare === 0) return { ...empty, root: undefined };
  if (bare === 1) return { ...empty, root: random.pick(["", "# only a comment", "\r\n# x\r\n", "   \n"]) };
  const schema = old ? 2 : version.startsWith("2.3.") ? random.pick([2, 3, 4]) : random.pick([2, 3]);
  const id = schema === 2 && (old || random.chance(0.8)) ? v2 : v3;
  const files: Record<string, string> = {};
  const imports: string[] = [];
  for (const path of places.filter(() => random.chance(0.2))) {
    const nested = random.chance(0.15) ? ['imports = ["/etc/containerd/nested/*.toml"]'] : [];
    if (nested.length > 0)
      files["/etc/containerd/nested/n.toml"] = layOut(random, `version = ${schema}\n${cri(random, id)}\n`);
    const said = old || random.chance(0.6) ? [`version = ${schema}`] : [];
    const body = random.chance(0.8) ? [cri(random, id)] : other(random);
    files[path] = layOut(random, `${["# by a tool", ...said, ...nested, ...body].join("\n")}\n`);
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (path.startsWith(folder)) {
      const relative = old ? `conf.d/${name}` : "conf.d/*.toml";
      imports.push(random.pick([`${folder}/*.toml`, `${folder}/*[a-z].toml`, path, relative]));
    } else if (path.startsWith("/opt"))
      imports.push(random.pick([path, `${path.slice(0, -name.length)}*.toml`]));
    else imports.push(random.pick([path, name, `./${name}`, "/etc/containerd/e*.toml"]));
  }
  if (imports.length === 0 && random.chance(0.25)) imports.push(`${folder}/*.toml`);
  const quoted = [...new Set(imports)].map((text) => (random.chance(0.5) ? `"${text}"` : `'${text}'`));
  const head = [`version${random.chance(0.2) ? "=" : " = "}${schema}${random.chance(0.15) ? " # v" : ""}`];
  if (quoted.length > 0 || random.chance(0.1)) {
    const lists = [
      `imports = [${quoted.join(", ")}]`,
      `imports = [\n${quoted.map((text) => `  ${text}, # x\n`).join("")}]`,
      `imports = [\n  # why\n${quoted.map((text) => `\t${text}`).join(",\n")}\n]`,
    ] as const;
    head.push(random.pick(lists));
  }
  if (random.chance(0.15)) head.unshift("# Managed by hand\n#   keep");
  if (random.chance(0.15)) head.push("oom_score = -999");
  const tables = other(random);
  if (random.chance(0.8)) tables.splice(random.int(tables.length + 1), 0, cri(random, id));
  const gap = random.pick(["\n", "\n\n", "\n\n\n"]);
  return { schema, id, files, root: layOut(random, `${[head.join("\n"), ...tables].join(gap)}\n`) };
}

/** What somebody else does to the node meanwhile; undefined where that makes no sense there. */
function meddle(random: Random, node: Node, { schema, id }: Sample): string | undefined {
  const added = `${folder}/98-new.toml`;
  const kind = random.pick(["comment", "prepend", "blank", "runtime", "rewrite", "drop-in", "no drop-in"]);
  if (kind === "drop-in") {
    if (schema === 0) return undefined;
    const both = ["new", "runc"].map(
      (name) => `[plugins."${id}".containerd.runtimes.${name}]\nruntime_type = "io.containerd.runc.v2"\n`,
    );
    node.place(added, `version = ${schema}\n${both.join("")}`);
    return kind;
  }
  if (kind === "no drop-in") {
    if (!existsSync(node.root + added)) return undefined;
    rmSync(node.root + added);
    return kind;
  }
  if (!existsSync(node.root + defaultConfigPath)) return undefined;
  const text = node.text();
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  const ended = text === "" || text.endsWith("\n") ? text : text + eol;
  if (kind === "comment") node.place(defaultConfigPath, `${ended}# the administrator was here${eol}`);
  if (kind === "prepend") node.place(defaultConfigPath, `# first${eol}${text}`);
  if (kind === "blank") node.place(defaultConfigPath, `${ended}${eol}${eol}`);
  if (kind === "runtime") {
    // Others know containerd 1.x: who adds a handler there makes sure of runc.
    const runtimes = tableAt(parse(text), "plugins", id, "containerd", "runtimes");
    const runcIsTheirs = runtimes?.["runc"] !== undefined && !text.includes("# BEGIN shimctl shared");
    if (schema === 0 || runtimes?.["foo"] !== undefined || (id === v2 && !runcIsTheirs)) return undefined;
    const lines = ["", `[plugins."${id}".containerd.runtimes.foo]`, 'runtime_type = "io.containerd.runc.v2"'];
    node.place(defaultConfigPath, ended + lines.map((line) => line + eol).join(""));
  }
  // As tools do that load and store: without comments, so without our marks.
  if (kind === "rewrite") node.place(defaultConfigPath, stringify(parse(text, { integersAsBigInt: true })));
  return kind;
}

const names = ["kata-qemu", "kata-clh", "runsc", "crun", "nvidia"] as const;
const owners = ["default", "team-b"] as const;

function command(random: Random, node: Node): string[] {
  const some = names.filter(() => random.chance(0.3));
  const wanted = some.length > 0 ? some : [random.pick(names)];
  switch (random.pick(["install", "install", "install", "uninstall", "apply", "all"])) {
    case "install":
      return ["install", ...wanted, "--allow-missing"];
    case "uninstall":
      return ["uninstall", ...wanted];
    case "all":
      return ["uninstall", "--all"];
    default: {
      const file = `${node.root}.handlers.toml`;
      writeFileSync(
        file,
        `format = 1\n[handlers]\n${wanted.map((name) => `${name} = { preset = "${name}" }\n`).join("")}`,
      );
      return ["apply", "-f", file, "--allow-missing"];
    }
  }
}

/** The engine's own words; where the root file is absent it would start on its defaults, as on an empty file. */
function dumpOf(engine: Engine, node: Node): Output {
  if (existsSync(node.root + defaultConfigPath)) return dump(engine, node.root);
  const stand = "/etc/containerd/empty-root";
  node.place(stand, "");
  try {
    return dump(engine, node.root, stand);
  } finally {
    rmSync(node.root + stand);
  }
}

async function criLoads(engine: Engine, node: Node): Promise<boolean> {
  let daemon: Daemon | undefined;
  try {
    daemon = await startDaemon(engine, node.root);
    return daemon.criLoaded();
  } catch {
    return false;
  } finally {
    await daemon?.stop();
  }
}

/** A dump without the handlers that are ours, before or after. */
function foreignMeaning(dumped: string, ours: ReadonlySet<string>, version: string): TomlTable {
  const meaning = normalise(dumped);
  const runtimes = tableAt(meaning, "plugins", isOld(version) ? v2 : v3, "containerd", "runtimes");
  for (const name of ours) delete runtimes?.[name];
  // 1.x loses its default where a file defines others: it comes back with us, and goes with us.
  if (isOld(version)) delete runtimes?.["runc"];
  return meaning;
}

interface Status {
  readonly handlers: readonly { readonly name: string; readonly runtimeType: string }[];
  readonly owners: readonly { readonly handlers: readonly string[] }[];
  readonly engine: { readonly defaultHandler: string };
}

async function statusOf(node: Node): Promise<Status> {
  const ran = await node.run(["status", "--json"]);
  expect([0, 10, 11]).toContain(ran.code);
  return ran.json() as unknown as Status;
}

/** What `status` says is what the engine serves. */
function expectServed({ handlers, engine: said }: Status, dumped: string, version: string): void {
  const served = Object.entries(handlersOf(dumped, version)).map(([name, table]) => {
    const type = table["runtime_type"];
    return [name, typeof type === "string" ? type : ""];
  });
  expect(handlers.map(({ name, runtimeType }) => [name, runtimeType]).sort()).toEqual(served.sort());
  const cri = tableAt(normalise(dumped), "plugins", isOld(version) ? v2 : v3, "containerd");
  expect(isTable(cri) ? cri["default_runtime_name"] : undefined).toBe(said.defaultHandler);
}

interface Tally {
  changed: number;
  refused: number;
  restored: number;
  daemons: number;
}

/** One node's life. Whoever reads a failure finds what happened in `story`. */
async function live(
  engine: Engine,
  seed: number,
  tally: Tally,
  story: string[],
  daemons: boolean,
): Promise<void> {
  const chance = random(seed);
  const made = sample(chance, engine.version);
  using node = new Node(engine.version, made.root);
  mkdirSync(`${node.root}/etc/containerd`, { recursive: true });
  for (const [path, text] of Object.entries(made.files)) node.place(path, text);
  const handlerFile = `${node.root}.handlers.toml`;
  try {
    let before = dumpOf(engine, node);
    let loaded = daemons && before.rc === 0 && (await criLoads(engine, node));
    let held: Status["owners"] = [];
    /** The node as it was when nothing of ours stood in it, as long as nobody else changes it. */
    let clean: Record<string, string> | undefined = node.tree();
    const steps = 3 + chance.int(6);
    for (let step = 0; step < steps + owners.length; step++) {
      if (step < steps && chance.chance(0.3)) {
        const what = meddle(chance, node, made);
        if (what === undefined) continue;
        story.push(`somebody else: ${what}`);
        before = dumpOf(engine, node);
        clean = held.length === 0 ? node.tree() : undefined;
        loaded = loaded && before.rc === 0 && (await criLoads(engine, node));
        continue;
      }
      const leaving = owners[step - steps];
      const args = leaving === undefined ? command(chance, node) : ["uninstall", "--all"];
      args.push("--owner", leaving ?? chance.pick(owners), "--json");
      const tree = node.tree();
      const ran = await node.run(args);
      story.push(`${args.join(" ").replace(handlerFile, "FILE")} -> ${ran.code}`);
      if (ran.code !== 0) {
        // A refusal: an expected kind, and nothing at all has changed.
        expect([[3, 5].includes(ran.code), ran.out]).toEqual([true, ran.out]);
        expect(node.tree()).toEqual(tree);
        tally.refused++;
        continue;
      }
      const document = ran.json() as { result: string; handlers: { name: string }[] };
      if (document.result === "unchanged") expect(node.tree()).toEqual(tree);
      const after = dumpOf(engine, node);
      const status = await statusOf(node);
      if (after.rc === 0) expectServed(status, after.stdout, engine.version);
      if (before.rc === 0) {
        expect([after.rc, after.stderr.slice(0, 500)]).toEqual([0, expect.any(String)]);
        const ours = new Set([...held, ...status.owners].flatMap(({ handlers }) => handlers));
        expect(foreignMeaning(after.stdout, ours, engine.version)).toEqual(
          foreignMeaning(before.stdout, ours, engine.version),
        );
        const serves = Object.keys(handlersOf(after.stdout, engine.version));
        expect(serves).toEqual(expect.arrayContaining(document.handlers.map(({ name }) => name)));
      }
      if (chance.chance(0.2)) {
        const again = await node.run(args);
        expect([again.code, again.json()["result"]]).toEqual([0, "unchanged"]);
      }
      if (loaded && document.result === "changed") {
        expect(await criLoads(engine, node)).toBe(true);
        tally.daemons++;
      }
      tally.changed++;
      held = status.owners;
      before = after;
      if (held.length > 0) continue;
      if (clean !== undefined) {
        expect(node.tree()).toEqual(clean);
        tally.restored++;
      }
      clean = node.tree();
    }
  } catch (error) {
    const files = [defaultConfigPath, ...Object.keys(made.files)].map((path) => {
      const text = path === defaultConfigPath ? made.root : made.files[path];
      const now = existsSync(node.root + path) ? readFileSync(node.root + path, "utf8") : undefined;
      return `-- ${path}\n${JSON.stringify(text)}\n-- now\n${JSON.stringify(now)}`;
    });
    console.log([`containerd ${engine.version}, seed ${seed}`, ...story, ...files].join("\n"));
    throw error;
  } finally {
    rmSync(handlerFile, { force: true });
  }
}

describe.skipIf(ready.length === 0)("any node, changed by two owners and by others in turn", () => {
  const tally: Tally = { changed: 0, refused: 0, restored: 0, daemons: 0 };
  let seed = firstSeed;
  afterAll(() =>
    console.log(
      `   seeds ${firstSeed} to ${seed - 1}: ${tally.changed} changes, ${tally.refused} refusals, ${tally.restored} nodes as they were, ${tally.daemons} daemon starts`,
    ),
  );

  test(
    "stays one that its real engine reads, with all that others wrote, and is byte for byte as it was in the end",
    async () => {
      const end = Date.now() + seconds * 1000;
      const canStart = daemonProblem() === undefined;
      while (Date.now() < end) {
        const engine = ready[seed % ready.length];
        if (engine === undefined) throw new Error("no engine");
        await live(engine, seed, tally, [], canStart && Math.floor(seed / ready.length) % 4 === 0);
        seed++;
      }
      expect(tally.changed).toBeGreaterThan(0);
    },
    seconds * 1000 + 120_000,
  );
});
