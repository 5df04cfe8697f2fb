import type { Mending } from "../remedy.ts";
import { dropInFolder } from "./load.ts";

/** CRI-O reads every file of its drop-in folder: nothing of ours may stand there. */
export const crioMending: Mending = {
  acceptsMark: true,
  tempDir(site, path) {
    const folder = dropInFolder(site);
    return path.startsWith(`${folder}/`) ? folder.slice(0, folder.lastIndexOf("/")) : undefined;
  },
  remedies: () => [],
};
