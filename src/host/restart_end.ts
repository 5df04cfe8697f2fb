/** How a restart ended that was still under way when its time was over; other ends are the service manager's words. */
export const notWaitedFor = "not waited for";
