import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { asShimctlError } from "../../src/cli/output.ts";
import { ShimctlError } from "../../src/error.ts";
import { inWords } from "../../src/host/failure.ts";
import { asThrown } from "../../src/host/libc/libc.ts";

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
}

test("a failed system call is told with its cause, the file as the node names it, and the next step", () => {
  const error = asShimctlError(
    thrownBy(() => readFileSync("/nowhere/at/all")),
    "/nowhere",
  );
  expect([error.code, error.message, error.facts.path, error.facts.hint]).toEqual([
    "unsupported-node",
    "Cannot use this file, as it is not there",
    "/at/all",
    "see errno(3) for its meaning",
  ]);
});

test("what a C function answers is told like what node:fs throws", () => {
  const said = (errno: number) => {
    const error = inWords(asThrown(errno), "Cannot do it", "/etc/x");
    return error instanceof ShimctlError ? [error.message, error.facts.retryable] : error;
  };
  expect(said(5)).toEqual(["Cannot do it, as the device reports an error", false]);
  expect(said(28)).toEqual(["Cannot do it, as there is no space left", true]);
  expect(said(200)).toEqual(["Cannot do it, as the kernel answers with error 200", false]);
});

test("a mistake of ours is no failed system call", () => {
  const error = asShimctlError(new TypeError("x is not a function"));
  expect([error.code, error.message, error.facts.hint?.includes("report this")]).toEqual([
    "internal",
    "x is not a function",
    true,
  ]);
});
