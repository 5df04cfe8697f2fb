import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { nvidiaArgv } from "./cases.ts";
import { configuration, usualLines } from "./configuration.ts";
import { kataScript } from "./kata_script.ts";
import { copyNode, kataShims, makeNode, rootFile } from "./node.ts";
import type { Peer } from "./nvidia.ts";
import type { Series } from "./plot.ts";
import type { Programs } from "./programs.ts";
import { type Command, type Prepared, prepare, run, runTogether } from "./spawn.ts";
import { median } from "./statistics.ts";

/** How wall time grows: three plots' worth of points, in ms. */
export interface Scale {
  /** n installs by n owners on one node: at once, and one after another. */
  readonly processes: readonly Series[];
  /** One install on configurations of so many lines. */
  readonly lines: readonly Series[];
  /** One install of so many handlers. */
  readonly handlers: readonly Series[];
}

export interface Sizes {
  readonly processes: readonly number[];
  readonly lines: readonly number[];
  readonly handlers: readonly number[];
  readonly rounds: number;
}

export const fullSizes: Sizes = {
  processes: [1, 2, 4, 8, 16, 32, 64, 128],
  lines: [50, 150, 500, 1500, 5000, 15_000, 50_000],
  handlers: [1, 3, 10, 20, 100, 300, 1000],
  rounds: 7,
};

export function scale(
  folder: string,
  { shimctl }: Programs,
  peer: Peer | undefined,
  sizes: Sizes,
  told: (what: string) => void,
): Scale {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const bench = new Bench(folder, shimctl);
  return {
    processes: bench.processes(sizes, told),
    lines: bench.lines(sizes, peer, told),
    handlers: bench.handlers(sizes, told),
  };
}

/** The script needs minutes for more. */
const scriptLimit = 100;

class Bench {
  readonly bare: string;
  readonly root: string;
  readonly output: string;
  readonly folder: string;
  readonly shimctl: string;

  constructor(folder: string, shimctl: string) {
    this.bare = `${folder}/bare`;
    this.root = `${folder}/node`;
    this.output = `${folder}/output`;
    this.folder = folder;
    this.shimctl = shimctl;
  }

  processes({ processes, rounds }: Sizes, told: (what: string) => void): Series[] {
    makeNode(this.bare, configuration(usualLines));
    const owners = Array.from({ length: Math.max(...processes) }, (_, index) => {
      const owner = `owner-${index + 1}`;
      return this.prepared(this.install(this.handlerFile(owner, [`handler-${index + 1}`], owner)));
    });
    const together: [number, number][] = [];
    const inTurn: [number, number][] = [];
    for (const count of processes) {
      told(`${count} processes`);
      const some = owners.slice(0, count);
      const times: { together: number[]; inTurn: number[] } = { together: [], inTurn: [] };
      for (let round = 0; round <= rounds; round++) {
        copyNode(this.bare, this.root);
        const atOnce = runTogether(some).wallMs;
        copyNode(this.bare, this.root);
        const one = some.reduce((sum, prepared) => sum + run(prepared).wallMs, 0);
        if (round === 0) continue;
        times.together.push(atOnce);
        times.inTurn.push(one);
      }
      together.push([count, median(times.together)]);
      inTurn.push([count, median(times.inTurn)]);
    }
    return [
      { label: "all at once", points: together },
      { label: "one after another", points: inTurn },
    ];
  }

  lines({ lines, rounds }: Sizes, peer: Peer | undefined, told: (what: string) => void): Series[] {
    const ours = this.prepared(this.install("nvidia"));
    const theirs = peer === undefined ? undefined : this.prepared({ argv: nvidiaArgv(peer, this.root) });
    const series: { label: string; command: Prepared | undefined; points: [number, number][] }[] = [
      { label: "shimctl install", command: ours, points: [] },
      { label: "nvidia-ctk runtime configure", command: theirs, points: [] },
    ];
    for (const count of lines) {
      told(`${count} lines`);
      makeNode(this.bare, configuration(count));
      const commands = series.map(({ command }) => command);
      for (const [index, time] of this.medians(commands, rounds).entries())
        if (time !== undefined) series[index]?.points.push([count, time]);
    }
    return series.filter(({ points }) => points.length > 0);
  }

  handlers({ handlers, rounds }: Sizes, told: (what: string) => void): Series[] {
    makeNode(this.bare, configuration(usualLines));
    const ours: [number, number][] = [];
    const theirs: [number, number][] = [];
    for (const count of handlers) {
      told(`${count} handlers`);
      const names = Array.from({ length: count }, (_, index) => `handler-${index + 1}`);
      const file = this.handlerFile(`handlers-${count}`, names);
      const script = `${this.folder}/script-${count}.sh`;
      const shims = names.map((_, index) => `${kataShims[index % kataShims.length] ?? ""}-${index}`);
      writeFileSync(script, kataScript(`${this.root}${rootFile}`, shims));
      const commands = [
        this.prepared(this.install(file)),
        count > scriptLimit ? undefined : this.prepared({ argv: ["/bin/sh", script] }),
      ];
      const [own, other] = this.medians(commands, rounds);
      if (own !== undefined) ours.push([count, own]);
      if (other !== undefined) theirs.push([count, other]);
    }
    return [
      { label: "shimctl install", points: ours },
      { label: "a script, one rewrite per key", points: theirs },
    ];
  }

  /** Interleaved, each on the same files; one round before is not counted. */
  medians(commands: readonly (Prepared | undefined)[], rounds: number): (number | undefined)[] {
    const times = commands.map((): number[] => []);
    for (let round = 0; round <= rounds; round++) {
      for (const [index, command] of commands.entries()) {
        if (command === undefined) continue;
        copyNode(this.bare, this.root);
        const { wallMs } = run(command);
        if (round > 0) times[index]?.push(wallMs);
      }
    }
    return times.map((each) => (each.length === 0 ? undefined : median(each)));
  }

  /** Handlers spelled out, so that as many as one likes can be had. */
  handlerFile(name: string, handlers: readonly string[], owner?: string): string {
    const path = `${this.folder}/${name}.toml`;
    const text = handlers.map(
      (handler) => `[handlers.${handler}]
pod_annotations = ["io.katacontainers.*"]
[handlers.${handler}.containerd]
runtime_type = "io.containerd.kata-qemu.v2"
runtime_path = "/opt/kata/bin/containerd-shim-kata-v2"
options = { ConfigPath = "/opt/kata/share/defaults/kata-containers/runtimes/qemu/configuration-qemu.toml" }
`,
    );
    writeFileSync(
      path,
      ["format = 1", ...(owner === undefined ? [] : [`owner = "${owner}"`]), "", ...text].join("\n"),
    );
    return path;
  }

  /** @param what a handler file, or the name of a preset */
  install(what: string): Command {
    const named = what.startsWith("/") ? ["-f", what] : [what];
    return { argv: [this.shimctl, "install", ...named, "--root", this.root, "--no-restart"] };
  }

  prepared(command: Command): Prepared {
    return prepare(command, this.output);
  }
}
