// The build defines it.
declare const shimctlRevision: string | undefined;

/** The commit that an executable was built from, where that was a clean checkout. */
export const revision: string | undefined =
  typeof shimctlRevision === "string" && shimctlRevision !== "" ? shimctlRevision : undefined;
