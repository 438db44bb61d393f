// SPDX-License-Identifier: Apache-2.0
// Cache memory that same-host peers can map: a sealed memfd, mapped here. It has no name in a file
// system, so nothing is left behind however the process ends.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvferry {

/// Memory for hosts that let kvferry own their pools. Its size is sealed: no holder of the
/// descriptor, this process included, can shrink or grow it, so an access never ends in SIGBUS.
class memfd_pool {
public:
    struct options {
        /// 2 MiB pages from the machine's reserve (vm.nr_hugepages); refused when it is too small.
        bool huge_pages = false;
        /// Reserves and maps every page now: a shortage is an error here instead of a signal later.
        bool prefault = false;
    };

    /// `name` is for people (/proc/<pid>/maps); it need not be unique. The size is rounded up to
    /// whole pages. registration_failed with the system's reason, invalid_argument for 0 bytes.
    static caf::expected<memfd_pool> make(const std::string& name, std::uint64_t bytes,
                                          options how);
    static caf::expected<memfd_pool> make(const std::string& name, std::uint64_t bytes) {
        return make(name, bytes, options{});
    }

    /// Uses huge pages when the machine's reserve has enough of them, else normal pages, which the
    /// kernel may join (MADV_HUGEPAGE, where shmem_enabled allows it).
    static caf::expected<memfd_pool> make_best(const std::string& name, std::uint64_t bytes,
                                               bool prefault);

    memfd_pool(memfd_pool&&) noexcept;
    memfd_pool& operator=(memfd_pool&&) noexcept;
    ~memfd_pool();

    std::byte* base() const noexcept { return base_; }
    std::uint64_t bytes() const noexcept { return bytes_; }
    /// Page size of the huge-page reserve, or the system's smallest. Does not show pages that the
    /// kernel has joined.
    std::uint64_t page_bytes() const noexcept { return page_bytes_; }
    /// For share_region; the pool stays the owner.
    int fd() const noexcept { return fd_.get(); }

private:
    memfd_pool(unique_fd fd, std::byte* base, std::uint64_t bytes,
               std::uint64_t page_bytes) noexcept;

    unique_fd fd_;
    std::byte* base_;
    std::uint64_t bytes_;
    std::uint64_t page_bytes_;
};

} // namespace kvferry
