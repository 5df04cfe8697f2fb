import { ShimctlError } from "../../error.ts";
import { withoutShared } from "../../toml/edit.ts";
import { lineOf } from "../../toml/find.ts";
import { parseToml, type TomlTable } from "../../toml/parse.ts";
import type { EngineVersion, Site } from "../backend.ts";
import { isTable, tableAt } from "../tables.ts";
import { type Loaded, stringList } from "./load.ts";
import { casedKeys } from "./rules.ts";
import { criImages, criV2, criV3, mergesTables, migratesEachFile, newestSchema } from "./schema.ts";

/** The engine's version: what the layout found, else what the file itself proves. */
export function versionFor(site: Site, rootText: string | undefined): EngineVersion {
  if (site.version !== undefined) return site.version;
  const schema = rootText === undefined ? undefined : schemaIn(rootText, site.rootFile);
  if (schema === 3n) return { major: 2, source: "version = 3 in the configuration" };
  if (schema !== undefined && schema >= 4n)
    return { major: 2, minor: 3, source: "version = 4 in the configuration" };
  throw new ShimctlError(
    "unsupported-config",
    "Cannot tell containerd 1.x from 2.x on this node, and they read this configuration differently",
    {
      path: site.rootFile,
      hint: "pass --engine-version, for example --engine-version 1.7.24 (`containerd --version` prints it)",
    },
  );
}

function schemaIn(text: string, path: string): bigint | undefined {
  let table: TomlTable;
  try {
    table = parseToml(text, path);
  } catch {
    table = parseToml(withoutShared(text, path), path);
  }
  const version = table["version"];
  return typeof version === "bigint" ? version : undefined;
}

/**
 * The schema that everything of ours must have: the root file's own, by its bytes. Never that of `config
 * dump`, which is always the newest, and never that of the binary (NVIDIA/aicr#1688).
 */
export function rootSchema(root: Loaded, version: EngineVersion): number {
  const declared = root.table["version"];
  const at = (key: string) => {
    const line = lineOf(root.text, [key]);
    return { path: root.path, ...(line === undefined ? {} : { line }) };
  };
  if (declared !== undefined && typeof declared !== "bigint") {
    throw new ShimctlError("invalid-config", "Cannot read 'version', which must be a whole number", {
      ...at("version"),
      hint: "write version = 2 without quotes",
    });
  }
  const newest = newestSchema(version);
  if (declared === undefined) {
    if (Object.keys(root.bareTable).length === 0) return mergesTables(version) ? 3 : 2;
    const disabled = root.bareTable["disabled_plugins"];
    if (Array.isArray(disabled) && disabled.includes("cri")) throw criDisabled(root, "cri");
    throw new ShimctlError(
      "unsupported-config",
      "Cannot use a configuration without 'version', as containerd then reads it as version 1",
      {
        path: root.path,
        line: 1,
        hint: `migrate it first: containerd config migrate; or, when its tables are of version ${Math.min(newest, 3)} already, add version = ${Math.min(newest, 3)} as its first line`,
      },
    );
  }
  if (declared < 2n) {
    throw new ShimctlError("unsupported-config", `Cannot use a configuration of version ${declared}`, {
      ...at("version"),
      hint: "migrate it first: containerd config migrate",
    });
  }
  if (declared > BigInt(newest)) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot use a configuration of version ${declared}, as containerd ${nameOf(version)} reads versions up to ${newest}`,
      {
        ...at("version"),
        hint:
          declared > 4n
            ? "a newer shimctl may know this version"
            : "check --engine-version, or write the configuration for this engine",
      },
    );
  }
  return Number(declared);
}

export function nameOf(version: EngineVersion): string {
  const parts = [
    version.major,
    version.minor ?? "x",
    ...(version.patch === undefined ? [] : [version.patch]),
  ];
  return parts.join(".");
}

/** What no edit of ours can make work: nothing is added to such a node, but what is ours can be removed. */
export function refusalOf(
  loaded: readonly Loaded[],
  schema: number,
  version: EngineVersion,
): ShimctlError | undefined {
  try {
    refuseUnsupported(loaded, schema, version);
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw error;
  }
  return undefined;
}

function refuseUnsupported(loaded: readonly Loaded[], schema: number, version: EngineVersion): void {
  for (const file of loaded) {
    refuseOtherCase(file);
    const disabled = stringList(file.bareTable, "disabled_plugins", file.path);
    const cri = disabled.find((id) => disables(id, version));
    if (cri !== undefined) throw criDisabled(file, cri);
    for (const key of ["disabled_plugins", "required_plugins"]) {
      for (const id of stringList(file.bareTable, key, file.path)) refuseBadPluginUri(file, key, id, version);
    }
    refuseBadPluginTable(file, version);
    refuseMixedVersions(file, schema, version);
  }
}

function disables(id: string, version: EngineVersion): boolean {
  return id === "cri" || id === criV2 || (mergesTables(version) && (id === criV3 || id === criImages));
}

function criDisabled(file: Loaded, id: string): ShimctlError {
  const line = lineOf(file.text, ["disabled_plugins"]);
  return new ShimctlError(
    "unsupported-config",
    `Cannot install handlers, as this file disables the CRI plugin: ${id}`,
    {
      path: file.path,
      ...(line === undefined ? {} : { line }),
      hint: "this is the file that docker's containerd package brings: replace it by a version 2 configuration without cri in disabled_plugins (containerd config default)",
    },
  );
}

function refuseBadPluginUri(file: Loaded, key: string, id: string, version: EngineVersion): void {
  const parts = id.split(".").length;
  if (mergesTables(version) ? parts >= 2 : parts >= 4) return;
  const line = lineOf(file.text, [key]);
  throw new ShimctlError(
    "invalid-config",
    `Cannot use this configuration, as containerd does not start with '${id}' in ${key}`,
    {
      path: file.path,
      ...(line === undefined ? {} : { line }),
      hint: "write the plugin's full id, such as io.containerd.grpc.v1.cri",
    },
  );
}

function refuseBadPluginTable(file: Loaded, version: EngineVersion): void {
  const plugins = file.bareTable["plugins"];
  if (plugins !== undefined && !isTable(plugins)) {
    throw new ShimctlError("invalid-config", "Cannot read 'plugins', which must be a table", {
      path: file.path,
    });
  }
  if (mergesTables(version)) return;
  for (const id of Object.keys(plugins ?? {})) {
    if (id.split(".").length >= 4) continue;
    const line = lineOf(file.text, ["plugins", id]);
    throw new ShimctlError(
      "invalid-config",
      `Cannot use this configuration, as containerd 1.x does not start with the plugin id '${id}'`,
      {
        path: file.path,
        ...(line === undefined ? {} : { line }),
        hint: 'quote the whole id: [plugins."io.containerd.grpc.v1.cri"]',
      },
    );
  }
}

/** containerd 2.x matches keys in any case, 1.x does not: the two would read this file differently. */
function refuseOtherCase(file: Loaded): void {
  const found =
    otherCase(file.bareTable, casedKeys) ??
    [criV2, criV3]
      .flatMap((id) => {
        const cri = tableAt(file.bareTable, "plugins", id);
        return [
          otherCase(cri, ["containerd"]),
          otherCase(tableAt(cri, "containerd"), ["runtimes", "default_runtime_name"]),
        ];
      })
      .find((key) => key !== undefined);
  if (found === undefined) return;
  const line = lineOf(file.text, [found]);
  throw new ShimctlError(
    "unsupported-config",
    `Cannot use the key '${found}', as containerd 2.x reads it in any case and 1.x ignores it`,
    {
      path: file.path,
      ...(line === undefined ? {} : { line }),
      hint: `write it as '${found.toLowerCase()}'`,
    },
  );
}

function otherCase(table: TomlTable | undefined, keys: readonly string[]): string | undefined {
  return Object.keys(table ?? {}).find((key) => !keys.includes(key) && keys.includes(key.toLowerCase()));
}

/**
 * containerd 2.0 to 2.2 take the version of the last file for all of them, and ignore tables of the other;
 * 2.3 refuses a drop-in that is newer than the root (config-semantics.md, trap 4).
 */
function refuseMixedVersions(file: Loaded, schema: number, version: EngineVersion): void {
  const declared = file.bareTable["version"];
  if (declared === undefined || declared === BigInt(schema) || file.read.kind !== "file") return;
  if (migratesEachFile(version) && typeof declared === "bigint" && declared < BigInt(schema)) return;
  const line = lineOf(file.text, ["version"]);
  throw new ShimctlError(
    "unsupported-config",
    `Cannot add to a configuration of mixed versions, as containerd then ignores one of them: ${declared} here and ${schema} in the root file`,
    {
      path: file.path,
      ...(line === undefined ? {} : { line }),
      hint: "give every imported file the root file's version and plugin ids, or no version",
    },
  );
}
