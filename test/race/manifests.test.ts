import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { compiled } from "../support/binary.ts";
import { type EngineCase, engineCases } from "../support/engine_case.ts";
import { documentsOf, list, mapping, text, texts } from "../support/manifest.ts";
import { Node } from "../support/node.ts";
import { randomOf } from "../support/random.ts";

/** A hundred where the races are given their time. */
const rounds = Number(process.env["SHIMCTL_TEST_RACE_SECONDS"] ?? "4") >= 60 ? 100 : 8;
const seed = Number(process.env["SHIMCTL_TEST_SEED"] ?? "10924");

/** What a pod of a rendered manifest runs, and what is left when it is the last. */
interface Incarnation {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly handlers: readonly string[];
}

/** Its one look in place of a watch without end, and at once; all else is the manifest's own. */
async function incarnation(
  node: Node,
  kind: "daemonset" | "job",
  handlers: readonly string[],
): Promise<Incarnation> {
  // So that the clock, by which manifests are stamped, has moved.
  await sleep(2);
  const asked = kind === "job" ? ["--all", "--node-name", "node-1"] : handlers;
  const { code, out, err } = await node.run(["render", "--for", kind, ...asked]);
  if (code !== 0) throw new Error(err);
  const documents = documentsOf(out);
  const workload = documents.find((each) => each["kind"] === "DaemonSet" || each["kind"] === "Job");
  const template = mapping(mapping(workload?.["spec"])["template"]);
  const annotations = mapping(mapping(template["metadata"])["annotations"]);
  const container = list(mapping(template["spec"])["containers"])[0];
  // As in every pod: nobody is watching, and an uninstall is no person's.
  const env: Record<string, string> = { KUBERNETES_SERVICE_HOST: "10.96.0.1" };
  for (const { name, valueFrom } of list(container?.["env"])) {
    const path = text(mapping(mapping(valueFrom)["fieldRef"])["fieldPath"]);
    const key = /^metadata\.annotations\['(.+)'\]$/.exec(path)?.[1];
    env[text(name)] = key === undefined ? "node-1" : text(annotations[key]);
  }
  const config = documents.find((each) => each["kind"] === "ConfigMap");
  const file = `/etc/shimctl/${env["SHIMCTL_INSTANCE"]}.toml`;
  if (config !== undefined) node.place(file, text(mapping(config["data"])["handlers.toml"]));
  const args = texts(container?.["args"]).flatMap((each) => {
    if (/^--(root|listen|stagger)=/.test(each)) return [];
    return [each.startsWith("--file=") ? `--file=${node.root}${file}` : each];
  });
  return { args: kind === "job" ? args : [...args, "--once"], env, handlers };
}

function start(node: Node, { args, env }: Incarnation): Promise<string> {
  return new Promise((resolve) => {
    const all = [...args, "--json", "--restart", "none", "--log-level", "silent", ...node.options];
    const child = spawn(compiled(), all, { env: { ...process.env, ...env } });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.on("close", (code) => resolve(code === 0 ? "0" : `${args[0]} ended with ${code}: ${out}`));
  });
}

async function handlersOn(node: Node): Promise<string[]> {
  const { handlers } = (await node.run(["status", "--json"])).json() as {
    handlers: { name: string; owner: string | null }[];
  };
  return handlers
    .filter(({ owner }) => owner === "cluster")
    .map(({ name }) => name)
    .toSorted();
}

async function play(engineCase: EngineCase, count: number, random: () => number): Promise<void> {
  const [kata, second, third] = engineCase.handlers;
  using node = Node.of(engineCase);
  for (let round = 0; round < count; round++) {
    // What only the older roll-out had asked for goes too where the newer one has overtaken the job.
    const first = await incarnation(node, "daemonset", [kata, second]);
    const uninstall = await incarnation(node, "job", []);
    const all = [first, uninstall, await incarnation(node, "daemonset", [kata, third])];
    if (round % 2 === 1) all.push(await incarnation(node, "job", []));
    // A container that is started again, a job that is tried again: late, and older than what is there.
    const again = [first, uninstall].filter(() => random() < 0.5);
    const ended = await Promise.all(
      [...all, ...again].map(async (each) => {
        await sleep(random() * 60);
        return start(node, each);
      }),
    );
    expect(ended).toEqual(ended.map(() => "0"));
    expect([round, await handlersOn(node)]).toEqual([round, [...(all.at(-1)?.handlers ?? [])].toSorted()]);
  }
}

test(`a roll-out, its uninstall and the next roll-out in any order, ${rounds} times: what the last manifest says`, async () => {
  const each = Math.ceil(rounds / engineCases.length);
  await Promise.all(engineCases.map((engineCase, index) => play(engineCase, each, randomOf(seed + index))));
});
