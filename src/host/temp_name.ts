/** The names of temporary files of ours beside the configuration; no engine reads them. */
export const tempName = /^\..+\.shimctl-[0-9a-f]{12}\.(tmp|part)$/;

/** The name of what is being written and is not complete, where it needs a name; nobody but its writer uses it. */
export function partOf(temp: string): string {
  return temp.replace(/tmp$/, "part");
}
