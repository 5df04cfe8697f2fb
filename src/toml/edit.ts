/**
 * Every edit of an engine's file: pure, text in, text out. Each is undone by its counterpart byte for byte,
 * in any order, whatever else was added meanwhile.
 */
export { addArrayElement, readArrayElements, removeArrayElement } from "./array-element.ts";
export {
  type Block,
  type EditOptions,
  findBlocks,
  inspectBlocks,
  type MarkerProblem,
  removeBlock,
  renderBlock,
  setAsideNewer,
  setBlock,
} from "./block.ts";
export { canExtend, isExplicitTable, type Obstacle } from "./extend.ts";
export { disownRootLine, removeRootLine, rootMark, setRootLine, withoutShared } from "./root-line.ts";
export { takeOut } from "./take-out.ts";
