import type { Registry } from "prom-client";
import type { Facts } from "./facts.ts";

export interface Family {
  readonly name: string;
  readonly type: "gauge" | "counter";
  readonly help: string;
  readonly labels: readonly string[];
  /** When a node has no sample of it, where that can be: an alert need not ask for the absence of others. */
  readonly absent?: string;
  readonly samples: (facts: Facts) => readonly Sample[];
}

interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Every metric there is; `docs/metrics.md` has the same table. What can be 0 is 0, not absent. */
export const families: readonly Family[] = [
  family("gauge", "build_info", "This release of shimctl, and the engine it found. Always 1", {
    labels: ["version", "revision", "engine", "engine_version", "layout"],
    samples: ({ version, revision = "", engine, engineVersion = "", layout }) => [
      { labels: { version, revision, engine, engine_version: engineVersion, layout }, value: 1 },
    ],
  }),
  family("gauge", "record_format", "The format that this release writes its record in", {
    samples: ({ recordFormat }) => [{ value: recordFormat }],
  }),
  family("gauge", "state", "1 for the state that the node is in, as shimctl status tells it", {
    labels: ["state"],
    samples: ({ state }) =>
      states.map((each) => ({ labels: { state: each }, value: each === state ? 1 : 0 })),
  }),
  family("gauge", "handler_served", "Whether the running engine serves this handler", {
    labels: ["handler", "owner"],
    absent: "where no engine could be asked",
    samples: ({ handlers }) =>
      handlers.flatMap(({ name, owner, served }) =>
        served === undefined ? [] : [{ labels: { handler: name, owner }, value: Number(served) }],
      ),
  }),
  family("gauge", "handler_installed", "A handler that an owner has installed on this node. Always 1", {
    labels: ["handler", "owner"],
    absent: "while nobody has installed anything",
    samples: ({ handlers }) =>
      handlers.map(({ name, owner }) => ({ labels: { handler: name, owner }, value: 1 })),
  }),
  family("counter", "engine_restarts_total", "Restarts of the engine by shimctl, by what for", {
    labels: ["reason"],
    samples: ({ restarts }) => byKey("reason", restarts),
  }),
  family("counter", "undone_total", "Changes that were undone", {
    samples: ({ undone }) => [{ value: undone }],
  }),
  family(
    "counter",
    "superseded_total",
    "Runs that did nothing, as a newer incarnation of their owner had been there. Of this process: they write nothing",
    { samples: ({ superseded }) => [{ value: superseded }] },
  ),
  family("gauge", "held", "Whether the owner's last change was undone and none has worked since", {
    labels: ["owner"],
    absent: "while nobody has installed anything",
    samples: (facts) => byOwner(facts, facts.held),
  }),
  family("gauge", "hold", "Whether automatic runs of the owner only report; owner *: of every owner", {
    labels: ["owner"],
    samples: (facts) => byOwner(facts, facts.holds, ["*"]),
  }),
  family(
    "gauge",
    "contended",
    "Whether another writer takes the owner's handlers away again and again, so that they are not repaired any more",
    {
      labels: ["owner"],
      absent: "while nobody has installed anything",
      samples: (facts) => byOwner(facts, facts.contended),
    },
  ),
  family("gauge", "pending", "Whether something written awaits a start of the engine", {
    samples: ({ pending }) => [{ value: Number(pending) }],
  }),
  family(
    "gauge",
    "restart_budget_left",
    "Restarts of the engine that shimctl may make yet without a person",
    {
      labels: ["window"],
      samples: ({ budget }) => byKey("window", { hour: budget.hour, day: budget.day }),
    },
  ),
  family("gauge", "drift", "What is not as it was left, by what happened to it", {
    labels: ["cause"],
    samples: ({ drift }) => byKey("cause", drift),
  }),
  family("counter", "repairs_total", "Drift that was repaired by itself, by what had happened", {
    labels: ["cause"],
    samples: ({ repaired }) => byKey("cause", repaired),
  }),
  family("gauge", "lock_wait_seconds", "How long the last change waited for the node's lock", {
    samples: ({ lockWait = 0 }) => [{ value: lockWait }],
  }),
  family(
    "gauge",
    "last_change_timestamp_seconds",
    "When the owner's handlers were last changed, in Unix time",
    {
      labels: ["owner"],
      absent: "while nobody has installed anything",
      samples: ({ changed }) => byKey("owner", changed),
    },
  ),
  family(
    "gauge",
    "last_success_timestamp_seconds",
    "When the node was last found in order, or changed with success, in Unix time; 0: never",
    { samples: ({ lastSuccess = 0 }) => [{ value: lastSuccess }] },
  ),
  family("counter", "checks_total", "How often shimctl watch has looked at the node", {
    absent: "outside of `watch`",
    samples: ({ watch }) => (watch === undefined ? [] : [{ value: watch.checks }]),
  }),
  family(
    "counter",
    "check_failures_total",
    "Looks of shimctl watch that ended in an error: what is refused, held or contended counts at each look, as long as it lasts",
    {
      absent: "outside of `watch`",
      samples: ({ watch }) => (watch === undefined ? [] : [{ value: watch.failures }]),
    },
  ),
  family(
    "gauge",
    "last_check_timestamp_seconds",
    "When shimctl watch last looked at the node, in Unix time",
    {
      absent: "outside of `watch`",
      samples: ({ watch }) => (watch === undefined ? [] : [{ value: watch.lastCheck }]),
    },
  ),
];

/** The facts in Prometheus' text format, for a scrape or a textfile collector. */
export async function render(facts: Facts): Promise<string> {
  // Whoever asks for no metrics does not pay for them.
  const { default: prometheus } = await import("prom-client");
  const registry: Registry = new prometheus.Registry();
  for (const { name, type, help, labels, samples } of families) {
    const found = samples(facts);
    if (found.length === 0) continue;
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    if (type === "counter") {
      const counter = new prometheus.Counter(options);
      for (const { labels: of = {}, value } of found) counter.inc({ ...of }, value);
    } else {
      const gauge = new prometheus.Gauge(options);
      for (const { labels: of = {}, value } of found) gauge.set({ ...of }, value);
    }
  }
  return registry.metrics();
}

/** What a scrape's `Content-Type` says of `render`. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8";

function family(
  type: Family["type"],
  name: string,
  help: string,
  more: Pick<Family, "samples"> & Partial<Pick<Family, "labels" | "absent">>,
): Family {
  return { name: `shimctl_${name}`, type, help, labels: [], ...more };
}

const states: readonly Facts["state"][] = ["in sync", "drifted", "broken"];

function byKey(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => ({ labels: { [label]: key }, value }));
}

/** 1 for those named, 0 for every other owner that there is. */
function byOwner(facts: Facts, named: readonly string[], besides: readonly string[] = []): Sample[] {
  const known = [...facts.handlers.map(({ owner }) => owner), ...Object.keys(facts.changed), ...named];
  return [...new Set([...known, ...besides])]
    .sort()
    .map((owner) => ({ labels: { owner }, value: Number(named.includes(owner)) }));
}
