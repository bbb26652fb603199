"""The system calls that code in the box may use, with their numbers; everything else answers EPERM.

The list is what CPython, numpy and scipy need to compute. Left out on purpose, for example: execve,
fork and vfork (see `seccomp`), kill and tgkill, socket, connect and sendmsg (which could pass file
descriptors), ptrace, setrlimit, unshare, mount, memfd_create, io_uring, flock, sysinfo and statfs (which
tell of the host), every call that changes a file system. `seccomp` looks at the arguments of some of them.
"""

from __future__ import annotations

# name, number on x86_64, number on aarch64 ("-" where that architecture has no such call)
_TABLE = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, open 2 -,
openat 257 56, close 3 57, close_range 436 436, stat 4 -, fstat 5 80, lstat 6 -,
newfstatat 262 79, statx 332 291, lseek 8 62, mmap 9 222,
mprotect 10 226, munmap 11 215, mremap 25 216, brk 12 214, madvise 28 233,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, rt_sigreturn 15 139, sigaltstack 131 132, access 21 -,
faccessat 269 48, faccessat2 439 439, pipe 22 -, pipe2 293 59, select 23 -,
pselect6 270 72, poll 7 -, ppoll 271 73, epoll_create 213 -, epoll_create1 291 20,
epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441,
eventfd2 290 19, timerfd_create 283 85, timerfd_settime 286 86, timerfd_gettime 287 87,
sched_yield 24 124, sched_getaffinity 204 123, sched_getparam 143 121,
sched_getscheduler 145 120, nanosleep 35 101, clock_nanosleep 230 115,
clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -,
times 100 153, getitimer 36 102, setitimer 38 103, alarm 37 -, pause 34 -, getpid 39 172,
gettid 186 178, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176,
getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, getpgrp 111 -,
getpgid 121 155, getsid 124 156, getrlimit 97 163, getrusage 98 165, uname 63 160,
getcwd 79 17, chdir 80 49, readlink 89 -, readlinkat 267 78,
getdents64 217 61, dup 32 23, dup2 33 -, dup3 292 24, futex 202 98, set_robust_list 273 99,
set_tid_address 218 96, rseq 334 293, arch_prctl 158 -, getrandom 318 278, exit 60 93,
exit_group 231 94, wait4 61 260, waitid 247 95, recvfrom 45 207, recvmsg 47 212,
sendto 44 206, shutdown 48 210, getsockopt 55 209, getsockname 51 204, umask 95 166,
membarrier 324 283, restart_syscall 219 128, getcpu 309 168, getpriority 140 141,
clone 56 220, clone3 435 435, fcntl 72 25, ioctl 16 29, prctl 157 167, prlimit64 302 261,
socketpair 53 199
"""

_COLUMNS = {"x86_64": 1, "aarch64": 2}


def numbers(machine: str) -> dict[str, int]:
    """Names and numbers of the listed calls on an architecture; `KeyError` for one without a table."""
    column = _COLUMNS[machine]
    rows = (row.split() for row in _TABLE.strip().split(","))
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
