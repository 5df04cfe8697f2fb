import { bringCrio } from "../../build/crio.ts";
import { engines } from "../../build/engines.ts";
import { hashOf } from "../support/crash.ts";
import type { EngineCase } from "../support/engine_case.ts";
import { crioConfig, handlersOf as crioHandlersOf } from "./crio-harness.ts";
import { dump, handlersOf } from "./harness.ts";

/** What the real engine makes of a node's configuration, asked once for each that differs. */
export interface Verdicts {
  /** The handlers that it would serve, sorted. Throws with what it says where it would not start. */
  of(root: string): readonly string[];
  /** How many different configurations it was asked about. */
  readonly distinct: number;
}

export async function verdictsOf({ engine, version }: EngineCase): Promise<Verdicts> {
  const ask = engine === "crio" ? await askCrio(version) : await askContainerd(version);
  const known = new Map<string, readonly string[]>();
  return {
    of(root) {
      const hash = hashOf(root);
      const answer = known.get(hash) ?? ask(root);
      known.set(hash, answer);
      return answer;
    },
    get distinct() {
      return known.size;
    },
  };
}

type Ask = (root: string) => readonly string[];

async function askContainerd(version: string): Promise<Ask> {
  const engine = (await engines()).find((each) => each.version === version);
  if (engine === undefined) throw new Error(`there is no containerd ${version} here`);
  return (root) => {
    const { rc, stdout, stderr } = dump(engine, root);
    if (rc !== 0) throw new Error(`containerd ${version} refuses it: ${stderr}`);
    return Object.keys(handlersOf(stdout, version)).sort();
  };
}

async function askCrio(version: string): Promise<Ask> {
  const engine = (await bringCrio()).engines.find((each) => each.version === version);
  if (engine === undefined) throw new Error(`there is no CRI-O ${version} here`);
  return (root) => {
    const { rc, stdout, stderr } = crioConfig(engine, root);
    if (rc !== 0) throw new Error(`CRI-O ${version} refuses it: ${stderr}`);
    return Object.keys(crioHandlersOf(stdout)).sort();
  };
}
