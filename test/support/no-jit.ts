/** Runs a command in a folder. Its processes may never map memory as executable that was writable: prctl(2), PR_SET_MDWE. */
import { dlopen } from "bun:ffi";
import { spawnSync } from "node:child_process";
import process from "node:process";

const setMdwe = 65;
const refuseExecGain = 1n;
const { symbols } = dlopen("libc.so.6", {
  prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
});
if (symbols.prctl(setMdwe, refuseExecGain, 0n, 0n, 0n) !== 0) process.exit(99);
const [cwd = "", command = "", ...args] = process.argv.slice(2);
process.exit(spawnSync(command, args, { cwd, stdio: "inherit" }).status ?? 98);
