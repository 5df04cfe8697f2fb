import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Looked } from "../../src/watch/looked.ts";
import {
  begin,
  type Event,
  type Mode,
  next,
  type Settings,
  type State,
  type Step,
} from "../../src/watch/machine.ts";
import { shareOf } from "../../src/watch/share.ts";

const settings: Settings = {
  settleMs: 30_000,
  intervalMs: 60_000,
  delayMs: 0,
  hangMs: 600_000,
  onDrift: "repair",
};
const fine: Looked = {
  result: "unchanged",
  needs: "nothing",
  key: "",
  ready: true,
  reason: "kata served",
  folders: [],
  failed: false,
  hopeless: false,
  changed: false,
};
const drifted: Looked = { ...fine, result: "drifted", needs: "repair", key: "gone: kata", ready: false };
const missing: Looked = { ...fine, result: "drifted", needs: "install", key: "kata", ready: false };
const failed: Looked = { ...fine, result: "failed", ready: false, failed: true };

/** A holder by a made-up clock: its looks take a second, and find what `find` says. */
class Holder {
  now = 0;
  started: { readonly mode: Mode; readonly at: number }[] = [];
  said: string[] = [];
  exited = false;
  #step: Step;
  #running = false;
  readonly #find: (mode: Mode, now: number) => Looked | undefined;

  constructor(given: Settings, find: (mode: Mode, now: number) => Looked | undefined) {
    this.#find = find;
    this.#step = this.#take(begin(given, 0));
  }

  get state(): State {
    return this.#step.state;
  }

  send(event: Event): void {
    if (event.kind === "looked") this.#running = false;
    this.#step = this.#take(next(this.#step.state, event, this.now));
  }

  until(end: number): void {
    for (;;) {
      const { child } = this.state;
      const at = child === undefined ? this.#step.wakeAt : child.since + 1_000;
      if (at === undefined || at > end) break;
      this.now = Math.max(this.now, at);
      if (child === undefined) this.send({ kind: "tick" });
      else this.send({ kind: "looked", looked: this.#find(child.mode, this.now) });
    }
    this.now = end;
  }

  #take(step: Step): Step {
    for (const action of step.actions) {
      if (action.kind === "start") {
        if (this.#running) throw new Error("two children at once");
        this.#running = true;
        this.started.push({ mode: action.mode, at: this.now });
      }
      if (action.kind === "say") this.said.push(action.looked.result);
      if (action.kind === "exit") this.exited = true;
    }
    this.#step = step;
    return step;
  }
}

const acts = (holder: Holder) => holder.started.filter(({ mode }) => mode === "act").map(({ at }) => at);

test("the first look does what it finds to do; then a look follows each interval, and says nothing new", () => {
  const holder = new Holder(settings, () => fine);
  holder.until(3_600_000);
  expect(acts(holder)).toEqual([0]);
  expect(holder.started.length).toBe(60);
  expect(holder.said).toEqual(["unchanged"]);
});

test("drift is mended once it has lasted the settle time", () => {
  let drift = false;
  const holder = new Holder(settings, (mode) => {
    if (mode === "act") drift = false;
    return drift ? drifted : fine;
  });
  holder.until(100_000);
  drift = true;
  holder.send({ kind: "changed" });
  holder.until(400_000);
  const [, mended = 0, ...more] = acts(holder);
  expect(more).toEqual([]);
  expect(mended - 100_000).toBeGreaterThanOrEqual(settings.settleMs);
  expect(mended - 100_000).toBeLessThan(settings.settleMs + 5_000);
});

test("drift that goes by itself within the settle time is not touched", () => {
  let drift = false;
  const holder = new Holder(settings, () => (drift ? drifted : fine));
  holder.until(100_000);
  drift = true;
  holder.send({ kind: "changed" });
  holder.until(110_000);
  drift = false;
  holder.send({ kind: "changed" });
  holder.until(1_000_000);
  expect(acts(holder)).toEqual([0]);
});

test("a program that keeps writing puts a repair off, but not for ever", () => {
  let drift = false;
  const holder = new Holder(settings, (mode) => {
    if (mode === "act") drift = false;
    return drift ? drifted : fine;
  });
  holder.until(50_000);
  drift = true;
  for (let at = 50_000; at < 500_000; at += 2_000) {
    holder.send({ kind: "changed" });
    holder.until(at + 2_000);
  }
  const [, mended = 0] = acts(holder);
  expect(mended).toBeGreaterThan(200_000);
  expect(mended).toBeLessThan(50_000 + 10 * settings.settleMs + 5_000);
});

test("with --on-drift report, drift is looked at and never mended", () => {
  const holder = new Holder({ ...settings, onDrift: "report" }, () => drifted);
  holder.until(3_600_000);
  expect(acts(holder)).toEqual([0]);
  expect(holder.said).toEqual(["drifted"]);
});

test("a node waits its share of the stagger before what is asked for is brought onto it", () => {
  let installed = false;
  const holder = new Holder({ ...settings, delayMs: 600_000 }, (mode) => {
    if (mode === "act") installed = true;
    return installed ? fine : missing;
  });
  holder.until(3_600_000);
  expect(acts(holder)).toHaveLength(1);
  expect(acts(holder)[0]).toBeGreaterThanOrEqual(600_000);
  expect(acts(holder)[0]).toBeLessThan(602_000);
});

test("a node that needs no change does not wait, and what was cut short is finished at once", () => {
  const quiet = new Holder({ ...settings, delayMs: 600_000 }, () => fine);
  quiet.until(10_000);
  expect(quiet.state.last?.ready).toBe(true);
  let open = true;
  const cut = new Holder({ ...settings, delayMs: 600_000 }, (mode) => {
    if (mode === "act") open = false;
    return open ? { ...drifted, needs: "finish", key: "open" } : fine;
  });
  cut.until(10_000);
  expect(acts(cut)).toHaveLength(1);
});

test("what fails is tried again ever later, up to every 15 minutes", () => {
  const holder = new Holder(settings, (mode) =>
    mode === "act" ? { ...failed, needs: "install", key: "kata" } : missing,
  );
  holder.until(4 * 3_600_000);
  const gaps = acts(holder).map((at, index, all) => at - (all[index - 1] ?? at));
  expect(Math.max(...gaps)).toBeGreaterThan(800_000);
  expect(Math.max(...gaps)).toBeLessThan(15 * 60_000 + 120_000);
  expect(acts(holder).length).toBeLessThan(30);
});

test("what is held is asked for again at times, as what it depends on may be another by then", () => {
  let isMended = false;
  const held: Looked = { ...failed, result: "held", needs: "install", key: "kata" };
  let isDone = false;
  const holder = new Holder(settings, (mode) => {
    if (mode === "act" && !isMended) return held;
    isDone ||= mode === "act";
    return isDone ? fine : missing;
  });
  holder.until(4 * 3_600_000);
  isMended = true;
  const tries = acts(holder).length;
  expect(tries).toBeLessThan(30);
  holder.until(holder.now + 17 * 60_000);
  expect(acts(holder).length).toBe(tries + 1);
});

test("what no look can make better ends it at the first, and at no later one", () => {
  const wrong: Looked = { ...failed, result: "refused", hopeless: true };
  const first = new Holder(settings, () => wrong);
  first.until(3_600_000);
  expect(first).toMatchObject({ exited: true, said: ["refused"] });
  expect(first.started).toHaveLength(1);
  let looks = 0;
  const later = new Holder(settings, () => (looks++ === 0 ? fine : wrong));
  later.until(3_600_000);
  expect(later.exited).toBe(false);
});

test("an interval of nothing is one of a second", () => {
  const holder = new Holder({ ...settings, intervalMs: 0 }, () => fine);
  holder.until(60_000);
  expect(holder.started.length).toBeLessThanOrEqual(31);
});

test("where a program writes without end, looks that find nothing new come ever more seldom, until it is quiet", () => {
  const holder = new Holder({ ...settings, intervalMs: 3_600_000 }, () => fine);
  const flood = (end: number) => {
    for (let at = holder.now; at < end; at += 100) {
      holder.until(at);
      holder.send({ kind: "changed" });
    }
  };
  flood(600_000);
  expect(holder.started.length).toBeGreaterThan(600 / 20);
  expect(holder.started.length).toBeLessThan(600 / 15);
  holder.until(700_000);
  const before = holder.started.length;
  holder.send({ kind: "changed" });
  holder.until(holder.now + 1_000);
  expect(holder.started.length).toBe(before + 1);
  holder.until(holder.now + 5_000);
  holder.send({ kind: "changed" });
  holder.until(holder.now + 1_000);
  expect(holder.started.length).toBe(before + 2);
});

test("a look that hangs is ended once, and the next one comes after a pause", () => {
  let { state, wakeAt } = begin(settings, 0);
  expect(wakeAt).toBe(settings.hangMs);
  expect(next(state, { kind: "changed" }, 1_000).wakeAt).toBe(settings.hangMs);
  const hung = next(state, { kind: "tick" }, settings.hangMs);
  expect(hung.actions).toEqual([{ kind: "end child" }]);
  ({ state, wakeAt } = next(hung.state, { kind: "changed" }, settings.hangMs + 1));
  expect(wakeAt).toBeUndefined();
  const ended = next(state, { kind: "looked", looked: undefined }, settings.hangMs + 700);
  expect(ended.actions).toMatchObject([{ kind: "say", looked: { failed: true } }]);
  expect(ended.wakeAt).toBeGreaterThan(settings.hangMs + 700);
});

test("a stop ends the child first, and then the holder", () => {
  const holder = new Holder(settings, () => fine);
  holder.send({ kind: "stop" });
  expect(holder.exited).toBe(false);
  holder.send({ kind: "looked", looked: undefined });
  expect(holder.exited).toBe(true);
  const idle = new Holder(settings, () => fine);
  idle.until(30_000);
  idle.send({ kind: "stop" });
  expect(idle.exited).toBe(true);
});

test("whatever happens, there is never a second child, and never more than about a look a second", () => {
  const found = fc.constantFrom<Looked | undefined>(fine, drifted, missing, failed, undefined, {
    ...fine,
    changed: true,
  });
  const event = fc.record({ wait: fc.integer({ min: 0, max: 90_000 }), changes: fc.nat(5) });
  fc.assert(
    fc.property(
      fc.array(found, { minLength: 1, maxLength: 20 }),
      fc.array(event, { maxLength: 40 }),
      fc.constantFrom(0, 30_000, 600_000),
      fc.constantFrom<Settings["onDrift"]>("repair", "report"),
      (results, events, delayMs, onDrift) => {
        let turn = 0;
        const holder = new Holder({ ...settings, delayMs, onDrift }, () => results[turn++ % results.length]);
        for (const { wait, changes } of events) {
          for (let each = 0; each < changes; each++) holder.send({ kind: "changed" });
          holder.until(holder.now + wait);
        }
        // Looks take a second here; after each comes either a settled time or a distance.
        expect(holder.started.length).toBeLessThanOrEqual(holder.now / 1_000 + 2);
        if (delayMs > 0) for (const at of acts(holder)) expect(at).toBeGreaterThan(0);
        // It never falls asleep for good.
        const before = holder.started.length;
        holder.until(holder.now + 16 * 60_000);
        expect(holder.started.length).toBeGreaterThan(before);
      },
    ),
    { numRuns: 300 },
  );
});

test("nodes share a stagger evenly, each always the same part", () => {
  const span = 1_800_000;
  const shares = Array.from({ length: 1000 }, (_, index) => shareOf(`node-${index}`, span));
  expect(shareOf("node-7", span)).toBe(shares[7] ?? -1);
  for (let part = 0; part < 10; part++) {
    const within = shares.filter((share) => Math.floor((share / span) * 10) === part);
    expect(within.length).toBeGreaterThan(60);
    expect(within.length).toBeLessThan(140);
  }
  expect(shareOf("node-7", 0)).toBe(0);
});
