import { writeFileSync } from "node:fs";
import type { Site } from "../src/engine/backend.ts";
import { dropInFolder, dropInName } from "../src/engine/containerd/understand.ts";
import { dropInFolder as crioFolder } from "../src/engine/crio/load.ts";
import type { HostFiles } from "../src/host/host.ts";
import { kataLockPath, lockPath } from "../src/host/lock.ts";
import type { Layout, Places } from "../src/layout/layout.ts";
import { layouts } from "../src/layout/registry.ts";
import { managedSystems } from "../src/managed/registry.ts";
import { stateFolder } from "../src/transaction/state.ts";

/** Where the page is. */
export const distributionsPath = `${import.meta.dirname}/../docs/distributions.md`;

/** The page on distributions: what the layouts say of themselves, not a twin of it. */
export function distributionsPage(known: readonly Layout[] = layouts): string {
  const at = (layout: Layout) => ({ layout, places: layout.places(nowhere, undefined) });
  const left = known.filter((layout) => layout.refuses?.(nowhere, undefined) !== undefined);
  const changed = known.filter((layout) => !left.includes(layout)).map(at);
  return `# Distributions

<!-- Made from the layouts in src/layout by \`npm run distributions\`. -->

The file to change is found by what is on the node: \`shimctl status\` prints the layout, the evidence for it, and what takes an edit away there.
\`--layout NAME\` settles it where the evidence is for several, \`--config\` names the root file where the engine is started on another one, \`--unit\` the unit. On every
distribution shimctl keeps its record, journal and stored bytes in \`${stateFolder}\` (of the node: in a container it is mounted), and takes its
locks at \`${lockPath}\` and \`${kataLockPath}\`.

## Which files

The root file is where the engine starts to read, and decides version and plugin ids. Handlers go to one drop-in per owner or, where none
would be read, to a marked block in the file that is named.

${table(
  ["layout", "node", "root file", "template", "drop-in"],
  changed.map(({ layout, places }) => [
    code(layout.name),
    layout.title,
    code(places.rootFile),
    templates(places),
    dropIns(layout, places),
  ]),
)}

\\* containerd 2.0 and later. On 1.6 and 1.7 an import replaces whole tables of the root file, so there a block in the winning file is edited.
Where an import reaches another folder already, the drop-in goes there.

## How it comes into effect, and what lasts

${table(
  ["layout", "unit", "restart", "socket", "an edit survives", "it does not outlive"],
  changed.map(({ layout, places }) => [
    code(layout.name),
    code(layout.unit),
    layout.restarts === "itself" ? "by its own supervisor, which sees the change" : "by systemd, once",
    code(places.socket),
    layout.survives,
    layout.wipes ?? "-",
  ]),
)}

Where something takes edits away, \`install\` and \`apply\` say so in a warning. A DaemonSet that runs \`shimctl apply\` makes them anew when its
pod starts.

## Systems with documents of their own

Here nothing is changed: \`install\`, \`apply\`, \`uninstall\`, \`rollback\` and \`repair --yes\` end with exit code 6 and the command to use
instead, with the same handlers in it. \`status\`, \`check\`, \`diff\` and \`render\` work. Flatcar on which a drop-in of containerd.service names
another file (\`CONTAINERD_CONFIG\`, or a command line of its own) is an ordinary node, and that file is changed.

${table(
  ["layout", "node", "file", "why nothing is changed", "instead"],
  left.map((layout) => {
    const refusal = layout.refuses?.(nowhere, undefined);
    return [
      code(layout.name),
      layout.title,
      code(refusal?.path ?? ""),
      refusal?.why ?? "",
      layout.document === undefined ? (refusal?.hint ?? "") : renderOf(layout.document),
    ];
  }),
)}

On these an edit works until something takes it away, and a document lasts:

${table(
  ["layout", "node", "what makes the document"],
  changed.flatMap(({ layout: { name, title, document } }) =>
    document === undefined ? [] : [[code(name), title, renderOf(document)]],
  ),
)}

On OpenShift no file is edited that a MachineConfig has, neither by \`--adopt\` nor by \`repair --yes\`: the operator would degrade the node. Ours
is a file of its own, which it does not look at.

## When the node is refused

| what is said | what to do |
|---|---|
| Cannot find a container engine | \`--root\` where the node is mounted elsewhere, \`--config\` where its configuration is, \`--engine\` and \`--engine-version\` where the engine is not installed yet |
| Cannot choose between two engines | both are named with what speaks for them: pass one of the options in the hint. A running engine beside a stopped one is chosen by itself |
| Cannot use --layout X, as this node is Y | the evidence is named: leave \`--layout\` out, or remove what a distribution that is gone has left |
| Cannot use this configuration, as X on another file | \`--config\` with that file, or the unit is mended |
| Cannot tell which file X | \`--config\` with that file: the unit starts it by a script, or by a variable that cannot be seen; or what may name the data folder of k3s or RKE2 is not mounted |
| Cannot use X, as Y has its containerd read a file that it writes itself | leave \`--config\` out: k3s and RKE2 read no other |
| Cannot use this node, as its X is not mounted below Y | the mount in the hint |
| Cannot restart X, as it is Y while the engine runs, which something else has started | \`--unit\` with the unit that runs the engine: from inside a pod, only units with the usual names are seen unasked |
| Cannot tell containerd 1.x from 2.x | \`--engine-version\`, as \`containerd --version\` prints it |
| Cannot change handlers on X | the command in the hint |
| this file disables the CRI plugin | docker's package brings that file: write a new one with \`containerd config default\`, and restart containerd |
`;
}

/** A node on which nothing is. */
const nowhere: HostFiles = {
  root: "/",
  read: (path) => ({ kind: "absent", path, resolved: path, dangling: false }),
  list: () => undefined,
  exists: () => false,
  isExecutable: () => false,
};

function templates({ source }: Places): string {
  if (source?.kind === "rendered" && source.templates.length > 0)
    return source.templates.map(({ path }) => code(path)).join(", else ");
  return source?.kind === "template" ? `the root file, for ${source.by}` : "-";
}

function dropIns({ name, engine }: Layout, { rootFile, source }: Places): string {
  const site: Site = { layout: name, rootFile, version: undefined };
  const file = dropInName("OWNER");
  if (source?.kind === "rendered")
    return source.dropIns.map((folder) => code(`${folder}/${file}`)).join(", or ");
  if (source?.kind === "merged") return code(`${source.folder}/${file}`);
  if (source?.kind === "template") return "-";
  return engine === "crio"
    ? code(`${crioFolder}/${file.replace(/toml$/, "conf")}`)
    : `${code(`${dropInFolder(site)}/${file}`)} \\*`;
}

function renderOf(document: string): string {
  const command = code(`shimctl render --for ${document} HANDLER...`);
  try {
    managedSystems.find(({ name }) => name === document)?.rendering(undefined);
    return command;
  } catch {
    return `no document can hold handlers; ${command} says what there is instead`;
  }
}

function code(text: string): string {
  return `\`${text}\``;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

if (import.meta.main) writeFileSync(distributionsPath, distributionsPage());
