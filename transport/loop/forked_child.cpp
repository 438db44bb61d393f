// SPDX-License-Identifier: Apache-2.0
// One handler of pthread_atfork for the process, and the list that it works through.
#include "transport/loop/forked_child.hpp"

#include <fcntl.h>
#include <map>
#include <mutex>
#include <pthread.h>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

struct release_list {
    std::mutex mutex;
    std::map<const in_forked_child*, std::function<void()>> entries;
};

/// Never destroyed: the process may fork until its very end.
release_list& list() {
    static auto* result = [] {
        auto* made = new release_list;
        // The list is locked across the fork, so that the child finds it whole.
        ::pthread_atfork([] { list().mutex.lock(); }, [] { list().mutex.unlock(); },
                         [] {
                             for (const auto& [owner, release] : list().entries)
                                 release();
                             list().mutex.unlock();
                         });
        return made;
    }();
    return *result;
}

} // namespace

in_forked_child::in_forked_child(std::function<void()> release) {
    auto& all = list();
    std::lock_guard lock{all.mutex};
    all.entries.emplace(this, std::move(release));
}

in_forked_child::~in_forked_child() {
    auto& all = list();
    std::lock_guard lock{all.mutex};
    all.entries.erase(this);
}

void blank_descriptor(int fd) {
    const auto nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0) {
        ::close(fd);
        return;
    }
    ::dup3(nothing, fd, O_CLOEXEC);
    ::close(nothing);
}

} // namespace kvferry
