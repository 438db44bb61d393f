// SPDX-License-Identifier: Apache-2.0
// What a forked child of the host must let go of, because its copies would keep a connection open
// that its parent's death should end.
#pragma once

#include <functional>

namespace kvferry {

/// While it lives, a child that the process makes with fork() calls `release` before fork()
/// returns there. Children that go on to exec() need close-on-exec descriptors instead:
/// posix_spawn() and vfork() call nothing. Any thread; not inside `release`.
class in_forked_child {
public:
    explicit in_forked_child(std::function<void()> release);
    in_forked_child(const in_forked_child&) = delete;
    in_forked_child& operator=(const in_forked_child&) = delete;
    ~in_forked_child();
};

/// Closes the file behind a descriptor and leaves the number taken, so that a destructor which
/// closes it again hits nobody else's.
void blank_descriptor(int fd);

} // namespace kvferry
