import { type Converged, converge } from "../cluster/converge.ts";
import type { Label, TaintName } from "../cluster/labels.ts";
import { isMeant, patchFor } from "../cluster/patch.ts";
import { ShimctlError } from "../error.ts";
import type { ApiFailure, NodeApi, NodeObject } from "../host/kubernetes/client.ts";
import { sleep } from "../host/sleep.ts";
import type { Cluster, Environment } from "./environment.ts";
import { allLabels, isLive, isSameLabel, labelsIn, withLabels } from "./node_labels.ts";
import type { NodeStep, Outcome } from "./outcome.ts";
import type { NodeLabel } from "./record.ts";
import type { NodeState } from "./state.ts";

/** What the options ask of the Kubernetes node. */
export interface NodeAsk {
  readonly node: string;
  readonly labels: readonly Label[];
  readonly taints: readonly TaintName[];
}

/** How patient we are. Milliseconds. */
export interface NodePatience {
  readonly signal: AbortSignal;
  /** For all of it: the node's lock is held meanwhile. */
  readonly overallMs?: number;
  readonly pauseMs?: number;
  /** Between two reads after a restart. */
  readonly settleMs?: number;
}

/** What a run that asked for nothing spends on what is pending from another. */
const inPassingMs = 5_000;
/**
 * A kubelet that restarts with its engine (k3s, RKE2) registers its node once more and may write the labels that it
 * knew. It does so within its first second or two; `watch` looks again for all that comes later.
 */
const stableReads = 3;

/** @param api `undefined` outside a pod */
export function openNodeObject(
  api: NodeApi | undefined,
  ask: NodeAsk | undefined,
  { signal, overallMs = 30_000, pauseMs = 250, settleMs = 1_000 }: NodePatience,
): Cluster {
  const patience = (ms = overallMs) => ({ signal, pauseMs, deadline: Date.now() + ms });
  const converged = async (
    name: string,
    plan: Parameters<typeof converge>[2],
    limits: ReturnType<typeof patience>,
    onSent?: Parameters<typeof converge>[4],
  ): Promise<Converged> =>
    api === undefined
      ? { kind: "unreachable", why: "this is no pod, and only a pod has a service account" }
      : converge(api, name, plan, limits, onSent);

  /** Nodes that could not be asked in this run: they are not asked twice. */
  const unreached = new Set<string>();

  /** Takes labels off their nodes; those that cannot be taken off stay recorded as pending. @returns notes */
  const release = async (
    env: Environment,
    state: NodeState,
    going: readonly NodeLabel[],
    limits: ReturnType<typeof patience>,
  ): Promise<string[]> => {
    const { rootFile } = env.site;
    const { record } = state.readRecord();
    const isGoing = (label: NodeLabel) =>
      going.some((each) => each.owner === label.owner && isSameLabel(each, label));
    const inUse = allLabels(record).filter((label) => isLive(label) && !isGoing(label));
    const ours = going.filter((label) => !inUse.some((other) => isSameLabel(other, label)));
    const notes: string[] = [];
    const pending: NodeLabel[] = [];
    for (const name of new Set(ours.map(({ node }) => node))) {
      const remove = ours.filter(({ node }) => node === name);
      // A disk that was copied knows the labels of the machine that it comes from, whose handlers are still there.
      if (ask !== undefined && name !== ask.node) {
        notes.push(
          `${remove.map(inWords).join(", ")} was left on node '${name}', as this is '${ask.node}' and not the machine that set it`,
        );
        continue;
      }
      const none = { set: [], remove, untaint: [] };
      const answer = await converged(name, (node) => patchFor(node, none), limits);
      const words = remove.map(inWords).join(", ");
      if (answer.kind === "done" || answer.kind === "not found") continue;
      if (answer.kind === "interrupted")
        throw new ShimctlError(
          "interrupted",
          `Stopped by a signal while ${words} was removed from node '${name}'`,
          {
            hint: "run the same command again",
            retryable: true,
          },
        );
      unreached.add(name);
      pending.push(
        ...remove.map((label) => ({ ...label, pending: label.pending ?? env.now().toISOString() })),
      );
      notes.push(
        `${words} could not be removed from node '${name}', as ${reason(answer)}: the next run that reaches the API does it, or \`kubectl label node ${name} ${remove.map(({ key }) => `${key}-`).join(" ")}\``,
      );
    }
    const kept = labelsIn(record, rootFile).filter((label) => !isGoing(label));
    save(state, rootFile, [...kept, ...pending]);
    return notes;
  };

  return {
    async before(env, state, owner) {
      const { record, lost } = state.readRecord();
      const own = labelsIn(record, env.site.rootFile).filter(
        (label) => label.owner === owner && isLive(label),
      );
      // Nobody remembers what was ours: what the command names is taken for it, as the owner's handlers are here.
      const named =
        lost && ask !== undefined ? ask.labels.map((label) => ({ ...label, owner, node: ask.node })) : [];
      const going = [...own, ...named.filter((label) => !own.some((each) => isSameLabel(each, label)))];
      return going.length === 0 ? [] : release(env, state, going, patience());
    },

    async after(env, state, request, outcome) {
      const { owner, intent } = request;
      const { rootFile } = env.site;
      const labels = labelsIn(state.readRecord().record, rootFile);
      const isEmpty = outcome.handlers.length === 0;
      const due = labels.filter((label) => !isLive(label) || (isEmpty && label.owner === owner));
      if (ask === undefined || isEmpty) {
        const fresh = due.filter(({ node }) => !unreached.has(node));
        if (fresh.length === 0 || (ask === undefined && api === undefined)) return outcome;
        const ms = ask === undefined ? Math.min(inPassingMs, overallMs) : overallMs;
        const notes = await release(env, state, fresh, patience(ms));
        return { ...outcome, notes: [...outcome.notes, ...notes] };
      }
      const { labels: wanted, taints, node: name } = ask;
      if (intent.command === "uninstall") return outcome;
      if (env.activation === undefined) {
        const note = `node '${name}' is left as it is, as without a restart nothing proves that the handlers are served`;
        return { ...outcome, notes: [...outcome.notes, note] };
      }
      const failed = (failure: ShimctlError): Outcome => ({ ...outcome, node: { name, done: [], failure } });
      const unproved = await whyUnproved(env, outcome);
      if (unproved !== undefined)
        return failed(
          new ShimctlError("cannot-label", `Cannot label node '${name}', as ${unproved}`, {
            state: `${outcome.result === "changed" ? "the change is in place" : "the handlers are on disk"}; the node's labels and taints are as they were`,
            hint: "start the engine, then run the same command again",
            retryable: true,
          }),
        );
      const limits = patience();
      const exact = intent.command === "apply" && wanted.length > 0;
      try {
        let step = await set(env, state, owner, { name, wanted, taints, exact }, limits);
        // Only what restarts an engine may restart a kubelet with it.
        for (let stable = 0; step.failure === undefined && outcome.restart.done && stable < stableReads; ) {
          if (Date.now() + settleMs >= limits.deadline)
            return failed(
              asError(name, { kind: "unreachable", why: "something keeps taking its labels away" }),
            );
          await sleep(settleMs, signal);
          const again = await set(env, state, owner, { name, wanted, taints: [], exact: false }, limits);
          stable = again.done.length === 0 ? stable + 1 : 0;
          if (again.failure !== undefined) step = again;
        }
        return { ...outcome, node: step };
      } catch (error) {
        if (!(error instanceof ShimctlError)) throw error;
        return failed(error);
      }
    },
  };

  async function set(
    env: Environment,
    state: NodeState,
    owner: string,
    { name, wanted, taints, exact }: Setting,
    limits: ReturnType<typeof patience>,
  ): Promise<NodeStep> {
    const { rootFile } = env.site;
    const { record } = state.readRecord();
    const known = labelsIn(record, rootFile);
    const everywhere = allLabels(record).filter(({ node }) => node === name);
    const isNamed = ({ key }: Label) => wanted.some((label) => label.key === key);
    const isOwn = (label: NodeLabel) => label.owner === owner && label.node === name;
    const going = known.filter(
      (label) => label.node === name && !isNamed(label) && (!isLive(label) || (exact && isOwn(label))),
    );
    const inUse = everywhere.filter((label) => isLive(label) && !going.includes(label));
    const remove = going.filter((label) => !inUse.some(({ key }) => key === label.key));
    /** Set by this run, for all that is known. */
    const made = new Set<string>();
    let setting: readonly string[] = [];
    let told: readonly string[] = [];
    const plan = (node: NodeObject) => {
      const { labels = {} } = node.metadata;
      for (const { key, value } of wanted) refuseOther(name, key, value, labels, everywhere, owner);
      const operations = patchFor(node, { set: wanted, remove, untaint: taints });
      setting = wanted.filter(({ key, value }) => labels[key] !== value).map(({ key }) => key);
      if (operations.length > 0)
        told = [
          ...wanted.filter(({ key }) => setting.includes(key)).map((label) => `set ${inWords(label)}`),
          ...remove
            .filter(({ key, value }) => labels[key] === value)
            .map((label) => `removed ${inWords(label)}`),
          ...(operations.some(({ path }) => path.startsWith("/spec/taints/"))
            ? [
                `removed taint ${taints.map(({ key, effect }) => [key, effect ?? []].flat().join(":")).join(", ")}`,
              ]
            : []),
        ];
      return operations;
    };
    const entries = (keys: (key: string) => boolean): NodeLabel[] =>
      wanted.filter(({ key }) => keys(key)).map(({ key, value }) => ({ owner, node: name, key, value }));
    const others = known.filter((label) => !(isOwn(label) && isNamed(label)));
    // It was ours before, or another owner's of ours: what stood there with that value before us is not.
    const wasOurs = (key: string) =>
      everywhere.some(
        (label) => label.key === key && wanted.some((each) => isSameLabel(label, { ...each, node: name })),
      ) || everywhere.some((label) => label.key === key && isOwn(label));
    /** The owner's values that give way to others: until that is certain, one that stands there is ours still. */
    const replaced = () =>
      known
        .filter(
          (label) =>
            isOwn(label) && wanted.some(({ key, value }) => key === label.key && value !== label.value),
        )
        .map((label) => ({ ...label, pending: label.pending ?? env.now().toISOString() }));
    const answer = await converged(name, plan, limits, (mayBeDone) => {
      if (mayBeDone) for (const key of setting) made.add(key);
      // A crash after the patch must not leave a label that nobody knows.
      else
        save(state, rootFile, [
          ...others,
          ...replaced(),
          ...entries((key) => wasOurs(key) || made.has(key) || setting.includes(key)),
        ]);
    });
    const left = answer.kind === "done" ? others.filter((label) => !going.includes(label)) : others;
    const isOurs = (key: string) => made.has(key) || wasOurs(key);
    // What was tried and refused for certain is as it was.
    const own =
      answer.kind === "done"
        ? entries(isOurs)
        : [
            ...known.filter((label) => isOwn(label) && isNamed(label) && !made.has(label.key)),
            ...replaced().filter(({ key }) => made.has(key)),
            ...entries((key) => made.has(key)),
          ];
    save(state, rootFile, [...left, ...own]);
    if (answer.kind === "done") return { name, done: told };
    return { name, done: [], failure: asError(name, answer) };
  }
}

interface Setting {
  readonly name: string;
  readonly wanted: readonly Label[];
  readonly taints: readonly TaintName[];
  /** Labels of the owner that are not among these shall go. */
  readonly exact: boolean;
}

/**
 * What the node lacks of the labels that were asked for, and has of the taints that shall go, by one read. Throws ShimctlError `cannot-label`
 *
 * @param labels that are recorded: only what was set once can have drifted
 */
export async function missingOn(
  api: NodeApi | undefined,
  { node: name, labels: wanted, taints: untaint }: NodeAsk,
  labels: readonly NodeLabel[],
  owner: string,
  { signal, overallMs = 30_000 }: NodePatience,
): Promise<readonly string[]> {
  if (api === undefined) return [];
  const limited = AbortSignal.any([signal, AbortSignal.timeout(overallMs)]);
  const answer = await api.get(name, limited);
  if (answer.kind !== "node") throw asError(name, answer);
  const { labels: there = {} } = answer.node.metadata;
  const left = (answer.node.spec?.taints ?? [])
    .filter((taint) => isMeant(taint, untaint))
    .map(({ key, effect }) => `node '${name}' has taint ${key}:${effect}`);
  const missing = wanted
    .filter(({ key, value }) => there[key] !== value)
    .map((label) => {
      const was = labels.some((each) => each.owner === owner && isSameLabel(each, { ...label, node: name }));
      return `node '${name}' ${was ? "lost" : "lacks"} ${inWords(label)}`;
    });
  return [...missing, ...left];
}

/** Why nobody can say that the engine serves the owner's handlers; `undefined`: it does. */
async function whyUnproved(env: Environment, { proof, handlers }: Outcome): Promise<string | undefined> {
  if (proof.served === "passed") return undefined;
  const answer = await env.activation?.live.status();
  if (answer?.kind !== "up") return "the engine does not answer on its CRI socket";
  if (!answer.ready) return "the engine says that it is not ready";
  const missing = handlers.map(({ name }) => name).filter((name) => !answer.handlers.includes(name));
  return missing.length === 0 ? undefined : `the engine does not serve ${missing.join(", ")}`;
}

/** Somebody else's value stays. Throws ShimctlError `conflict` */
function refuseOther(
  name: string,
  key: string,
  value: string,
  labels: Readonly<Record<string, string>>,
  known: readonly NodeLabel[],
  owner: string,
): void {
  const there = Object.hasOwn(labels, key) ? labels[key] : undefined;
  if (there === undefined || there === value) return;
  const same = known.filter((label) => label.key === key && label.value === there);
  const other = same.find((label) => isLive(label) && label.owner !== owner);
  if (other === undefined && same.length > 0) return;
  const whose = other === undefined ? "somebody else has set" : `owner '${other.owner}' has set`;
  throw new ShimctlError(
    "conflict",
    `Cannot label node '${name}' with ${key}=${value}, as ${whose} another value: ${there}`,
    {
      state: stateWords,
      hint: `find out who sets it; to give it up: \`kubectl label node ${name} ${key}-\`, then run the same command again`,
    },
  );
}

const stateWords = "the handlers are installed and served; the node's labels and taints are not as asked for";

function asError(name: string, { kind, why }: ApiFailure): ShimctlError {
  const state = stateWords;
  if (kind === "interrupted")
    return new ShimctlError("interrupted", `Stopped by a signal before node '${name}' was labelled`, {
      state,
      hint: "run the same command again",
      retryable: true,
    });
  const hints: Record<Exclude<ApiFailure["kind"], "interrupted">, string> = {
    conflict: "run the same command again",
    "not found":
      "take the name that `kubectl get nodes` shows; in a pod, SHIMCTL_NODE_NAME from the field spec.nodeName",
    unauthorized:
      "see that the pod has automountServiceAccountToken: true and that its service account exists",
    forbidden: "bind its service account to a ClusterRole with the verbs get and patch on nodes",
    busy: "run the same command again when the API server is well",
    unreachable: "see that this pod reaches the API server, then run the same command again",
    refused: "mend what it says, then run the same command again",
  };
  return new ShimctlError("cannot-label", `Cannot label node '${name}', as ${reason({ kind, why })}`, {
    state,
    hint: hints[kind],
    retryable: kind === "busy" || kind === "unreachable" || kind === "conflict",
  });
}

/** In words that follow "as". */
function reason({ kind, why }: ApiFailure): string {
  const words: Record<ApiFailure["kind"], string> = {
    conflict: "others keep changing it",
    "not found": "the cluster has no node of that name",
    unauthorized: "the API server does not know us",
    forbidden: "our service account may not get or patch nodes",
    busy: "the API server has no time for us",
    unreachable: "the API server could not be reached",
    refused: "the API server does not take it",
    interrupted: "it was stopped",
  };
  return `${words[kind]}: ${why}`;
}

function inWords({ key, value }: Label): string {
  return `${key}=${value}`;
}

/** Writes them down durably, unless they stand there already. */
function save(state: NodeState, rootFile: string, labels: readonly NodeLabel[]): void {
  const { record } = state.readRecord();
  if (JSON.stringify(labelsIn(record, rootFile)) === JSON.stringify(labels)) return;
  state.writeRecord(withLabels(record, rootFile, labels));
}
