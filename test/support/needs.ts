import { spawnSync } from "node:child_process";
import process from "node:process";

interface Needs {
  readonly programs?: readonly string[];
  readonly root?: boolean;
  /** Something else that is missing, in words. */
  readonly also?: string;
}

/**
 * Why a group of tests cannot run here, in a sentence, printed as a skip; undefined when it can.
 * Throws in CI: there nothing may be missing unseen.
 */
export function whyNot(what: string, needs: Needs): string | undefined {
  const missing = (needs.programs ?? []).filter(
    (name) => spawnSync("sh", ["-c", `command -v ${name}`], { stdio: "ignore" }).status !== 0,
  );
  const problems = [
    ...(needs.also === undefined ? [] : [needs.also]),
    ...(missing.length > 0 ? [`not installed: ${missing.join(", ")}`] : []),
    ...(needs.root === true && process.geteuid?.() !== 0 ? ["not root"] : []),
  ];
  if (problems.length === 0) return undefined;
  const problem = problems.join("; ");
  if (process.env["CI"] === "true") throw new Error(`${what} cannot be tested: ${problem}`);
  console.log(`(skip) ${what}: ${problem}`);
  return problem;
}
