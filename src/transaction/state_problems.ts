import type { Holding, Problem } from "../engine/backend.ts";
import { type NodeState, stateFolder } from "./state.ts";

/** What reading commands have to say of the state itself: they go on with what can be read of it. */
export function stateProblems(state: NodeState, holdings: readonly Holding[] = []): Problem[] {
  const problems: Problem[] = [];
  const newer = state.newer();
  if (newer !== undefined) {
    const { message, path, hint } = newer;
    const words = `What is said here may lack something, as this release cannot wholly read ${message}`;
    problems.push({ severity: "warning", rule: "newer-format", message: words, path, hint });
  }
  const { damaged, lost, unreadable = false } = state.readRecord();
  const path = `${stateFolder}/record.json`;
  if (damaged !== undefined && newer === undefined) {
    const message = `A part of the record cannot be read and counts as not there: ${damaged.join(", ")}`;
    problems.push({ severity: "warning", rule: "damaged-record", message, path });
  }
  if ((unreadable || (lost && holdings.length > 0)) && newer === undefined) {
    const what = unreadable ? "cannot be read" : "is not there";
    const message = `The record ${what}: what is said here is what the intact markers in the files say`;
    const hint = "the next change writes it anew from these";
    problems.push({ severity: "warning", rule: "damaged-record", message, path, hint });
  }
  return problems;
}
