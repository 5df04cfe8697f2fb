import type { Backend, Site } from "../engine/backend.ts";
import { backends } from "../engine/registry.ts";
import { ShimctlError } from "../error.ts";
import { readGoModule } from "../host/go_binary.ts";
import { type Host, openHost } from "../host/root.ts";
import { detect } from "../layout/detect.ts";
import type { Found } from "../layout/layout.ts";
import type { Options } from "./options.ts";

export interface Node {
  readonly host: Host;
  readonly backend: Backend;
  readonly site: Site;
  readonly found: Found;
}

/** The node that the options name, with its engine. */
export function openNode(options: Options): Node {
  const host = openHost(options.root, options.given.get("root"));
  const found = detect(
    host,
    { engine: options.engine, config: options.config, version: options.engineVersion },
    (path) => readGoModule(host.real(path)),
  );
  const backend = backends.find((candidate) => candidate.name === found.layout.engine);
  if (backend === undefined)
    throw new ShimctlError("unsupported-node", `Cannot configure ${found.layout.engine} in this release`);
  return { host, backend, site: found.site, found };
}
