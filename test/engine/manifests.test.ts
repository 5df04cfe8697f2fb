import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { YAML } from "bun";
import { folder as deploy, shapes } from "../../build/deploy.ts";
import { bringManifestJudge, judge, manifestJudgeProblem, type Verdict } from "../../build/manifests.ts";
import { main } from "../../src/cli/main.ts";
import { nodeKinds } from "../../src/managed/mounts.ts";
import { whyNot } from "../support/needs.ts";
import { valueAt } from "../support/rendered.ts";

const cannot = await manifestJudgeProblem();
const problem = whyNot("manifests by the rules of Kubernetes", cannot === undefined ? {} : { also: cannot });

/** What docs/pod-security.md says that is forbidden, by the words of Pod Security admission. */
const documented = {
  baseline: ["hostPath volumes", "forbidden AppArmor profile", "seLinuxOptions"],
  restricted: [
    "forbidden AppArmor profile",
    // It stands for hostPath too.
    "restricted volume types",
    "runAsNonRoot != true",
    "runAsUser=0",
    "seLinuxOptions",
  ],
};

/** The reason, without the details of one pod. */
const reasons = (violations: readonly string[]) =>
  violations.map((violation) => violation.replace(/:.*/s, "")).sort();

const temp = mkdtempSync(join(tmpdir(), "shimctl-manifests-"));
afterAll(() => rmSync(temp, { recursive: true }));

async function render(line: string): Promise<string> {
  let out = "";
  const code = await main(["render", ...line.split(" ")], {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      throw new Error(text);
    },
    env: {},
    outIsTerminal: false,
    errIsTerminal: false,
    signal: new AbortController().signal,
    now: () => new Date("2026-09-01T12:00:00Z"),
  });
  expect(code).toBe(0);
  return out;
}

/** A file for the judge. */
function fileOf(name: string, text: string): string {
  const path = join(temp, `${name}.yaml`);
  writeFileSync(path, text);
  return path;
}

/** An overlay of a user, beside a copy of ours. */
function overlayOf(name: string, content: object): string {
  const path = join(temp, name);
  mkdirSync(path);
  writeFileSync(
    join(path, "kustomization.yaml"),
    JSON.stringify({ apiVersion: "kustomize.config.k8s.io/v1beta1", kind: "Kustomization", ...content }),
  );
  return path;
}

const podOf = ({ documents }: Verdict) =>
  documents?.find(({ kind }) => kind === "DaemonSet" || kind === "Job");

/** Ways to ask for more, each with a word of what Pod Security says to it; `undefined`: only our own tests see it. */
const mutants: readonly (readonly [string, string, (pod: Pod) => void])[] = [
  [
    "privileged",
    "privileged",
    (pod) => Object.assign(own(pod).securityContext, { privileged: true, allowPrivilegeEscalation: true }),
  ],
  [
    "escalation",
    "allowPrivilegeEscalation",
    (pod) => Object.assign(own(pod).securityContext, { allowPrivilegeEscalation: true }),
  ],
  [
    "a capability that baseline allows",
    "unrestricted capabilities",
    (pod) =>
      Object.assign(own(pod).securityContext, { capabilities: { drop: ["ALL"], add: ["DAC_OVERRIDE"] } }),
  ],
  [
    "a capability that nobody allows",
    "non-default capabilities",
    (pod) => Object.assign(own(pod).securityContext, { capabilities: { drop: ["ALL"], add: ["SYS_ADMIN"] } }),
  ],
  [
    "capabilities kept",
    "unrestricted capabilities",
    (pod) => Object.assign(own(pod).securityContext, { capabilities: {} }),
  ],
  ["hostPID", "host namespaces", (pod) => Object.assign(pod, { hostPID: true })],
  ["hostIPC", "host namespaces", (pod) => Object.assign(pod, { hostIPC: true })],
  ["hostNetwork", "host namespaces", (pod) => Object.assign(pod, { hostNetwork: true })],
  ["hostPort", "hostPort", (pod) => Object.assign(own(pod), { ports: [{ containerPort: 1, hostPort: 1 }] })],
  [
    "no seccomp",
    "seccompProfile",
    (pod) => Object.assign(pod.securityContext, { seccompProfile: { type: "Unconfined" } }),
  ],
  ["procMount", "procMount", (pod) => Object.assign(own(pod).securityContext, { procMount: "Unmasked" })],
  [
    "sysctls",
    "forbidden sysctls",
    (pod) => Object.assign(pod.securityContext, { sysctls: [{ name: "kernel.msgmax", value: "1" }] }),
  ],
];

interface Pod {
  readonly containers: Record<string, Record<string, unknown>>[];
  readonly securityContext: Record<string, unknown>;
}

function own(pod: Pod): { securityContext: object } & Record<string, unknown> {
  const [container] = pod.containers;
  if (container?.["securityContext"] === undefined) throw new Error("no container");
  return container as { securityContext: object };
}

describe.skipIf(problem !== undefined)("manifests", () => {
  let program: readonly string[] = [];
  const verdicts = new Map<string, Verdict>();
  const verdictOf = (name: string): Verdict => {
    const verdict = verdicts.get(name);
    if (verdict === undefined) throw new Error(`no verdict: ${name}`);
    return verdict;
  };
  const rendered: { readonly kind: string; readonly shape: string; readonly name: string }[] = [];
  const built: { readonly kind: string; readonly shape: string; readonly name: string }[] = [];

  beforeAll(async () => {
    program = await bringManifestJudge();
    cpSync(deploy, join(temp, "deploy"), { recursive: true });
    const paths = new Map<string, string>();
    for (const { name: kind } of nodeKinds) {
      for (const [shape, line] of [
        ["watch", "--for daemonset kata-qemu"],
        ["uninstall-node", "--for job --all --node-name unnamed-node"],
      ] as const) {
        const name = `rendered-${kind}-${shape}`;
        rendered.push({ kind, shape, name });
        paths.set(name, fileOf(name, await render(`${line} --layout ${kind}`)));
      }
      for (const { name: shape } of shapes) {
        const overlay = `deploy/overlays/${kind}${shape === "watch" ? "" : `/${shape}`}`;
        built.push({ kind, shape, name: overlay });
        paths.set(overlay, join(temp, overlay));
        const labelled = overlayOf(`labelled-${kind}-${shape}`, {
          resources: [`../${overlay}`],
          components: ["../deploy/node-label"],
          commonAnnotations: { "shimctl/epoch": "2026-09-01T12:00:00Z", "shimctl/instance": "one" },
          images: [{ name: "localhost/shimctl", newName: "example/shimctl", newTag: "9" }],
        });
        paths.set(`labelled-${kind}-${shape}`, labelled);
      }
    }
    const document = YAML.parse(await render("--for daemonset kata-qemu")) as unknown[];
    for (const [name, , change] of mutants) {
      const objects = structuredClone(document);
      change(valueAt(objects.at(-1), "spec", "template", "spec") as Pod);
      paths.set(
        `mutant ${name}`,
        fileOf(
          `mutant-${name.replaceAll(" ", "-")}`,
          objects.map((each) => JSON.stringify(each)).join("\n---\n"),
        ),
      );
    }
    const wrong = structuredClone(document);
    Object.assign(valueAt(wrong.at(-1), "spec", "template", "spec") as object, { terminationGracePeriod: 1 });
    paths.set("unknown field", fileOf("unknown-field", JSON.stringify(wrong.at(-1))));
    paths.set(
      "missing field",
      fileOf(
        "missing-field",
        JSON.stringify({ apiVersion: "apps/v1", kind: "DaemonSet", metadata: { name: "x" }, spec: {} }),
      ),
    );
    const names = [...paths.keys()];
    const said = await judge(program, [...paths.values()]);
    for (const [at, name] of names.entries()) {
      const verdict = said[at];
      if (verdict !== undefined) verdicts.set(name, verdict);
    }
  }, 300_000);

  test("are all what the API's schemas allow", () => {
    for (const [name, { problem: whole, documents }] of verdicts) {
      if (name.startsWith("mutant") || name.endsWith("field")) continue;
      expect([name, whole]).toEqual([name, undefined]);
      expect(documents?.length).toBeGreaterThan(2);
      for (const each of documents ?? [])
        expect([name, each.kind, ...each.problems]).toEqual([name, each.kind]);
    }
  });

  test("are refused by these schemas where a field is unknown or missing", () => {
    for (const name of ["unknown field", "missing field"])
      expect(verdictOf(name).documents?.flatMap(({ problems }) => problems)).not.toEqual([]);
  });

  test("break exactly those rules of Pod Security that docs/pod-security.md names", () => {
    for (const { kind, name } of [...rendered, ...built]) {
      const pod = podOf(verdictOf(name));
      expect([name, reasons(pod?.baseline ?? [])]).toEqual([name, [...documented.baseline].sort()]);
      const also = kind === "microk8s" ? ["unrestricted capabilities"] : [];
      expect([name, reasons(pod?.restricted ?? [])]).toEqual([
        name,
        [...documented.restricted, ...also].sort(),
      ]);
    }
  });

  test("break no rule more with the label, and are given the token, the stamp and the image", () => {
    for (const { kind, shape, name } of built) {
      const labelled = verdictOf(`labelled-${kind}-${shape}`);
      const pod = podOf(labelled);
      expect([pod?.baseline, pod?.restricted]).toEqual([
        podOf(verdictOf(name))?.baseline,
        podOf(verdictOf(name))?.restricted,
      ]);
      const spec = valueAt(pod?.object, "spec", "template", "spec");
      expect(valueAt(spec, "automountServiceAccountToken")).toBe(true);
      const list = shapes.find((each) => each.name === shape)?.list ?? "";
      const [container] = valueAt(spec, list) as { image: string; env: { name: string }[] }[];
      expect(container?.image).toBe("example/shimctl:9");
      expect(container?.env.map((each) => each.name)).toContain("SHIMCTL_NODE_LABEL");
      expect(valueAt(pod?.object, "spec", "template", "metadata", "annotations")).toMatchObject({
        "shimctl/epoch": "2026-09-01T12:00:00Z",
        "shimctl/instance": "one",
      });
      expect(labelled.documents?.find((each) => each.kind === "ClusterRole")?.object["rules"]).toEqual([
        { apiGroups: [""], resources: ["nodes"], verbs: ["get", "patch"] },
      ]);
    }
  });

  test("are the same from Kustomize as from render, but for the stamp and the order of lists", () => {
    for (const { kind, shape } of rendered) {
      const [one, other] = [
        `rendered-${kind}-${shape}`,
        built.find((each) => each.kind === kind && each.shape === shape)?.name ?? "",
      ].map((name) => {
        const pod = podOf(verdictOf(name));
        return sorted(valueAt(pod?.object, "spec"));
      });
      expect(one).toBe(other ?? "");
    }
  });

  for (const [name, word] of mutants)
    test(`are caught with ${name}`, () => {
      const pod = podOf(verdictOf(`mutant ${name}`));
      const all = [...(pod?.baseline ?? []), ...(pod?.restricted ?? [])];
      expect(all.join("\n")).toContain(word);
      expect(reasons(pod?.restricted ?? [])).not.toEqual([...documented.restricted].sort());
    });

  test("have every exception in docs/pod-security.md, and no other", () => {
    const page = readFileSync(join(deploy, "..", "docs", "pod-security.md"), "utf8");
    const rows = [...page.matchAll(/^\| (baseline|restricted) \| ([^|]+) \|/gm)].map(
      ([, level, control]) => `${level} ${control}`,
    );
    expect(rows).toEqual([
      "baseline hostPath volumes",
      "baseline AppArmor profile",
      "baseline SELinux type",
      "restricted volume types",
      "restricted runAsNonRoot",
      "restricted runAsUser=0",
      "restricted unrestricted capabilities",
    ]);
  });
});

/** A text that is the same for objects that only differ in order, the stamp, and the hash in a name. */
function sorted(value: unknown): string {
  return JSON.stringify(value, (key, each: unknown) => {
    if (key === "shimctl/epoch" || key === "shimctl/instance") return undefined;
    if (typeof each === "string") return each.replace(/^shimctl-handlers-\w+$/, "shimctl-handlers");
    if (Array.isArray(each) && key !== "args")
      return [...each].sort((a, b) => (JSON.stringify(deep(a)) < JSON.stringify(deep(b)) ? -1 : 1));
    return typeof each === "object" && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each;
  });
}

function deep(value: unknown): unknown {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(
        Object.entries(value)
          .map(([key, each]) => [key, deep(each)] as const)
          .sort(([a], [b]) => (a < b ? -1 : 1)),
      )
    : value;
}
