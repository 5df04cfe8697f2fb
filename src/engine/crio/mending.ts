import type { Mending } from "../remedy.ts";
import { dropInFolder } from "./load.ts";

/** CRI-O reads every file of its drop-in folder: nothing of ours may stand there. */
export const crioMending: Mending = {
  acceptsMark: true,
  tempDir(_, path) {
    return path.startsWith(`${dropInFolder}/`)
      ? dropInFolder.slice(0, dropInFolder.lastIndexOf("/"))
      : undefined;
  },
  remedies: () => [],
};
