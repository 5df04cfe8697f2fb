import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { cached, fill, run, runs, say } from "./cache.ts";

/**
 * The API's OpenAPI documents, as this module has them for its own use; nothing of it is built. 1.30 is the oldest
 * release with every field that the manifests use: appArmorProfile came with it.
 */
const schemas = { module: "sigs.k8s.io/kubectl-validate@v0.0.4", folder: "pkg/openapiclient/builtins/1.30" };
/** Of those, what has the kinds that we make. */
const documents = [
  "api/v1",
  "apis/apps/v1",
  "apis/batch/v1",
  "apis/node.k8s.io/v1",
  "apis/rbac.authorization.k8s.io/v1",
];
const Module = z.object({ Dir: z.string() });

/** The Go program that judges Kubernetes manifests. */
const source = join(import.meta.dirname, "manifests");

/** The program, with its first argument. Built once, and again when its source changes. Throws with the reason where it cannot be. */
export async function bringManifestJudge(): Promise<readonly string[]> {
  const name = `manifests-${sourceHash().slice(0, 12)}`;
  const problem = await fill(name, async (into) => {
    say("manifests", "building with go build");
    // Flags of the machine must not turn its dependencies into others.
    const env = { CGO_ENABLED: "0", GOWORK: "off", GOFLAGS: "" };
    const flags = [
      "-buildvcs=false",
      "-mod=readonly",
      "-trimpath",
      "-ldflags=-s -w",
      "-o",
      join(into, "judge"),
    ];
    await run(["go", "build", "-C", source, ...flags, "."], { env });
    const found = await run(["go", "mod", "download", "-json", schemas.module], { env });
    const { Dir } = Module.parse(JSON.parse(found));
    for (const each of documents)
      await cp(join(Dir, schemas.folder, `${each}.json`), join(into, "schemas", `${each}.json`), {
        recursive: true,
      });
    return { version: "1", from: [schemas.module] };
  });
  if (problem !== undefined) throw new Error(problem.reason);
  return [cached(name, "judge"), cached(name, "schemas")];
}

/** Why no judge can be had; `undefined` where one is there, or Go is. */
export async function manifestJudgeProblem(): Promise<string | undefined> {
  return (await runs(["go", "version"]))
    ? undefined
    : "Go is not installed, which builds the judge of manifests";
}

function sourceHash(): string {
  const hash = createHash("sha256");
  for (const name of ["go.mod", "go.sum", "main.go", "schemas.go"])
    hash.update(readFileSync(join(source, name)));
  return hash.digest("hex");
}

const Verdicts = z.array(
  z.object({
    path: z.string(),
    problem: z.string().optional(),
    documents: z
      .array(
        z.object({
          kind: z.string(),
          name: z.string(),
          /** What the API server would refuse. */
          problems: z.array(z.string()),
          /** What these Pod Security levels forbid. */
          baseline: z.array(z.string()),
          restricted: z.array(z.string()),
          object: z.record(z.string(), z.unknown()),
        }),
      )
      .nullable(),
  }),
);

export type Verdict = z.infer<typeof Verdicts>[number];

/** What the judge says of files of YAML documents, and of folders that Kustomize builds. */
export async function judge(program: readonly string[], paths: readonly string[]): Promise<Verdict[]> {
  return Verdicts.parse(JSON.parse(await run([...program, ...paths])));
}
