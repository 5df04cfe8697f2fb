import type { Problem, Site } from "../engine/backend.ts";
import { ExitCode, ShimctlError } from "../error.ts";
import { benefitOfDoubt } from "../host/unmounted.ts";
import { readEngine } from "../transaction/gather.ts";
import type { Io } from "./io.ts";
import { explained, namedHint, openEngine, refuseDenied } from "./node.ts";
import { type Options, type Parsed, pathProblem, shown } from "./options.ts";
import { document, errorText, problemEntry, problemText } from "./output.ts";

/** `check [PATH]`: whether the engine would start on this configuration, and serve what it says. Writes nothing. */
export async function check(io: Io, parsed: Parsed): Promise<number> {
  const [path, ...more] = parsed.args;
  if (more.length > 0)
    throw new ShimctlError("usage", "Cannot check more than one file", { hint: "run check once for each" });
  const why = path === undefined ? undefined : pathProblem(path);
  if (path !== undefined && why !== undefined)
    throw new ShimctlError("usage", `Cannot check this path, which ${why}: ${shown(path)}`, {
      hint: "write it as the node names it, from its root",
    });
  const node = await openEngine(path === undefined ? parsed.options : lookingAt(path, parsed.options));
  const site: Site = node.site;
  let problems: Problem[];
  try {
    if (path !== undefined && !node.host.exists(path)) {
      const hint = namedHint(node.host, path) ?? "check the path";
      throw new ShimctlError("usage", "Cannot check this file, as it is not there", { path, hint });
    }
    const engine = readEngine(node.host, node.backend, site);
    refuseDenied(engine.seen.files.values());
    problems = engine.view.check(benefitOfDoubt(node.host));
  } catch (thrown) {
    const error = explained(thrown, node.host);
    const code = error.code === "invalid-config" ? ExitCode.broken : error.exitCode;
    if (parsed.options.json)
      io.out(
        document("check", code === ExitCode.broken ? "broken" : "refused", error, {
          path: site.rootFile,
          problems: [],
        }),
      );
    else io.err(errorText(error));
    return code;
  }
  const broken = problems.some((problem) => problem.severity === "error");
  if (parsed.options.json) {
    io.out(
      document("check", broken ? "broken" : "ok", undefined, {
        path: site.rootFile,
        problems: problems.map(problemEntry),
      }),
    );
  } else {
    for (const problem of problems) io.out(`${problem.severity}: ${problemText(problem)}\n`);
    io.out(`${site.rootFile}: ${broken ? "broken" : "ok"}\n`);
  }
  return broken ? ExitCode.broken : ExitCode.done;
}

/** A file to look at, which need not be the one that the engine reads. */
function lookingAt(path: string, options: Options): Options {
  const given = new Map(options.given);
  given.delete("config");
  return { ...options, config: path, given };
}
