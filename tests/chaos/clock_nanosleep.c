/* libfaketime 0.9.10 takes a wall clock's time off each moment that a program sleeps until, also of
   the monotonic clock, which is left alone here: time.sleep of Python 3.11 fails by that (EINVAL). */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    return syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
}
