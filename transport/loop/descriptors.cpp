// SPDX-License-Identifier: Apache-2.0
// The kernel always gives the lowest free number: it tells how many are taken, without a list.
#include "transport/loop/descriptors.hpp"

#include "messages/limits.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/unique_fd.hpp"

#include <mutex>
#include <string>
#include <sys/eventfd.h>
#include <sys/resource.h>

namespace kvferry {

void raise_descriptor_limit() {
    static std::once_flag once;
    std::call_once(once, [] {
        rlimit limit{};
        if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
            return;
        const auto before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (::setrlimit(RLIMIT_NOFILE, &limit) == 0)
            logger().info("the limit of open descriptors is raised from {} to {}", before,
                          limit.rlim_max);
    });
}

caf::error check_descriptors(std::size_t reserve) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return {};
    const unique_fd next{made_to_fail("descriptors") ? -1 : ::eventfd(0, EFD_CLOEXEC)};
    if (next && static_cast<rlim_t>(next.get()) + reserve <= limit.rlim_cur)
        return {};
    return make_error(errc::limit_exceeded,
                      "fewer than {} of this process's {} descriptors are left: raise the limit "
                      "(ulimit -n, LimitNOFILE)",
                      reserve, limit.rlim_cur);
}

caf::error check_descriptors_to_accept() {
    return check_descriptors(descriptors_reserve / 4);
}

} // namespace kvferry
