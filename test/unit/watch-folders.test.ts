import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { watchFolders } from "../../src/watch/folders.ts";

/** A watched folder, and a wait for the next change that is told of it. */
function watched() {
  const base = mkdtempSync(join(tmpdir(), "shimctl-watch-"));
  const folder = join(base, "conf.d");
  mkdirSync(folder);
  let changes = 0;
  const watcher = watchFolders(() => {
    changes++;
  });
  return {
    base,
    folder,
    keep: () => watcher.keep([folder]),
    async isTold(act: () => void): Promise<boolean> {
      await Bun.sleep(20);
      const before = changes;
      act();
      for (let turn = 0; turn < 3_000 && changes === before; turn++) await Bun.sleep(10);
      return changes > before;
    },
    [Symbol.dispose]() {
      watcher.close();
      rmSync(base, { recursive: true });
    },
  };
}

test("a folder that was removed or replaced is watched again with the next look", async () => {
  using it = watched();
  const write = () => writeFileSync(join(it.folder, "a.toml"), "");
  it.keep();
  expect(await it.isTold(write)).toBe(true);
  expect(await it.isTold(() => rmSync(it.folder, { recursive: true }))).toBe(true);
  it.keep();
  mkdirSync(it.folder);
  it.keep();
  expect(await it.isTold(write)).toBe(true);
  mkdirSync(join(it.base, "new"));
  renameSync(it.folder, join(it.base, "old"));
  renameSync(join(it.base, "new"), it.folder);
  it.keep();
  expect(await it.isTold(write)).toBe(true);
});
