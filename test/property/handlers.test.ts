import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseHandlerFile, resolveFile } from "../../src/cli/handler_file.ts";
import type { Backend } from "../../src/engine/backend.ts";
import { containerd } from "../../src/engine/containerd/backend.ts";
import { crio } from "../../src/engine/crio/backend.ts";
import { backends } from "../../src/engine/registry.ts";
import { Handler } from "../../src/handler/model.ts";
import { anyHandler, withDifferentNames } from "../support/any_handler.ts";
import { MemoryNode } from "../support/memory.ts";
import { handlerFileOf, written } from "../support/written.ts";

const runs = 400;

const engines: readonly (readonly [version: string, backend: Backend, rootFile: string])[] = [
  ["1.7.24", containerd, "/etc/containerd/config.toml"],
  ["2.1.9", containerd, "/etc/containerd/config.toml"],
  ["2.3.4", containerd, "/etc/containerd/config.toml"],
  ["1.36.3", crio, "/etc/crio/crio.conf"],
];

const byName = (handlers: readonly Handler[]) =>
  Object.fromEntries(handlers.map((handler) => [handler.name, handler]));

function throughFile(handlers: readonly Handler[]): void {
  const file = parseHandlerFile(new TextEncoder().encode(handlerFileOf(handlers)), "handlers.toml");
  const resolved = resolveFile(file, { prefix: undefined, snapshotter: undefined, exists: () => false });
  expect(byName(resolved.map(({ handler }) => handler))).toEqual(byName(handlers));
}

describe("any handler", () => {
  test("is one to the model", () => {
    fc.assert(
      fc.property(anyHandler, (handler) => {
        expect(Handler.parse(handler)).toEqual(handler);
      }),
      { numRuns: runs },
    );
  });

  test("is the same once it went through a handler file", () => {
    fc.assert(fc.property(withDifferentNames(anyHandler, 4), throughFile), { numRuns: runs });
  });

  for (const { name } of backends) {
    test(`is the same once what the files of ${name} hold of it went through a handler file`, () => {
      fc.assert(
        fc.property(withDifferentNames(anyHandler, 4), (handlers) =>
          throughFile(handlers.map((handler) => written(name, handler))),
        ),
        { numRuns: runs },
      );
    });
  }

  for (const [version, backend, rootFile] of engines) {
    test(`is read back from the files of ${backend.name} ${version} as it was written, and then left alone`, () => {
      fc.assert(
        fc.property(withDifferentNames(anyHandler, 4), (handlers) => {
          const node = new MemoryNode(version, {}, rootFile, backend);
          node.make(node.view().plan("a", handlers));
          const back = node.view().handlersOf("a");
          expect(byName(back)).toEqual(byName(handlers.map((handler) => written(backend.name, handler))));
          expect(node.view().plan("a", back)).toEqual([]);
          node.make(node.view().plan("a", []));
          expect(node.tree()).toEqual({});
        }),
        { numRuns: runs },
      );
    });
  }
});
