/**
 * `bun bench/watch.ts [LOOKS]`: what `shimctl watch` holds in memory after 100 and after many looks, and when idle, and
 * how often it wakes up then. Fails beyond what is promised.
 */
import process from "node:process";
import { compiled, compiledToWatch } from "../test/support/binary.ts";
import { importedCase } from "../test/support/engine_case.ts";
import { idle, memoryAfter } from "../test/support/holder_memory.ts";
import { Node } from "../test/support/node.ts";

const most = Number(process.argv[2] ?? 10_000);
const mb = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`;
let isMet = true;
const bar = (what: string, met: boolean) => {
  console.log(`${met ? "met" : "MISSED"}: ${what}`);
  isMet &&= met;
};

using node = Node.of(importedCase);
const still = await idle(compiled(), node, 40_000, 20_000);
console.log(
  `idle: ${mb(still.own)} private, ${mb(still.total)} in all, ${still.wakeUps.toFixed(2)} wake-ups a second`,
);
bar("at most 12 MB private when idle", still.own <= 12e6);
bar("at most one wake-up a second when idle", still.wakeUps <= 1);
const [first, last] = await memoryAfter(compiledToWatch(), node, [100, most]);
if (first === undefined || last === undefined) throw new Error("nothing was measured");
for (const { looks, own, total } of [first, last])
  console.log(`after ${looks} looks: ${mb(own)} private, ${mb(total)} in all`);
bar("within 10 % of the memory after 100 looks", last.own <= first.own * 1.1);
process.exitCode = isMet ? 0 : 1;
