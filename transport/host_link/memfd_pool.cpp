// SPDX-License-Identifier: Apache-2.0
// Makes a pool step by step; the pool object undoes earlier steps when one fails.
#include "transport/host_link/memfd_pool.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <cerrno>
#include <fcntl.h>
#include <limits>
#include <sys/mman.h>
#include <utility>

// Values of the kernel's interface that older headers lack.
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace kvferry {

namespace {

constexpr std::uint64_t huge_page_bytes = std::uint64_t{2} << 20;

constexpr const char* advice_memory =
    "make the pool smaller, or raise the memory limit of the process's control group";
constexpr const char* advice_huge = "reserve more with vm.nr_hugepages, or leave huge_pages off";

caf::error failed(const std::string& name, std::uint64_t bytes, const char* call,
                  const char* advice) {
    return add_context(system_error(errc::registration_failed, call, advice), "pool {} of {} bytes",
                       name, bytes);
}

/// Reserves every page of the file, then maps them. Uses fallocate because only it reports a
/// shortage as an error.
int reserve(int fd, std::byte* base, std::uint64_t bytes) {
    int result = 0;
    do {
        result = made_to_fail("fallocate") ? -1 : ::fallocate(fd, 0, 0, static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    if (result == 0) // optional: saves later faults; Linux 5.14 and newer
        ::madvise(base, bytes, MADV_POPULATE_WRITE);
    return result;
}

/// Whether this control group may have huge pages at all. Only a fault tells, and where it is
/// forbidden it ends the process (SIGBUS), so the kernel is asked to fault: it answers with an
/// error instead. Before Linux 5.14 nobody can ask.
bool gives_huge_pages(std::byte* base) {
    const auto failed = made_to_fail("populate huge page")
                        || ::madvise(base, huge_page_bytes, MADV_POPULATE_WRITE) != 0;
    return !failed || errno == EINVAL;
}

} // namespace

caf::expected<memfd_pool> memfd_pool::make(const std::string& name, std::uint64_t bytes,
                                           options how) {
    const auto page =
        how.huge_pages ? huge_page_bytes : static_cast<std::uint64_t>(::getpagesize());
    if (bytes == 0 || bytes > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) - page)
        return make_error(errc::invalid_argument, "pool {}: {} bytes cannot be a pool's size", name,
                          bytes);
    bytes = (bytes + page - 1) / page * page;
    const auto* advice = how.huge_pages ? advice_huge : advice_memory;

    const auto flags =
        MFD_CLOEXEC | MFD_ALLOW_SEALING | (how.huge_pages ? MFD_HUGETLB | MFD_HUGE_2MB : 0u);
    unique_fd fd{made_to_fail("memfd_create") ? -1 : ::memfd_create(name.c_str(), flags)};
    if (!fd)
        return failed(name, bytes, "memfd_create",
                      how.huge_pages ? advice_huge : "raise the limit of open files");
    if (made_to_fail("ftruncate") || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
        return failed(name, bytes, "ftruncate", advice);
    if (made_to_fail("F_ADD_SEALS")
        || ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return failed(name, bytes, "F_ADD_SEALS", "run on Linux 4.16 or later");
    auto* address = made_to_fail("mmap")
                        ? MAP_FAILED
                        : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (address == MAP_FAILED)
        return failed(name, bytes, "mmap", advice);
    memfd_pool pool{std::move(fd), static_cast<std::byte*>(address), bytes, page};
    ::madvise(address, bytes, MADV_DONTDUMP); // cores stay small, and hold no prompts
    if (!how.huge_pages)
        ::madvise(address, bytes, MADV_HUGEPAGE); // a hint only
    if (how.huge_pages && !gives_huge_pages(pool.base()))
        return failed(name, bytes, "a huge page",
                      "raise the control group's hugetlb.2MB.max or vm.nr_hugepages, or leave "
                      "huge_pages off");
    if (how.prefault && reserve(pool.fd(), pool.base(), bytes) != 0)
        return failed(name, bytes, "fallocate", advice);
    return pool;
}

caf::expected<memfd_pool> memfd_pool::make_best(const std::string& name, std::uint64_t bytes,
                                                bool prefault) {
    if (bytes >= huge_page_bytes)
        if (auto pool = make(name, bytes, {.huge_pages = true, .prefault = prefault}))
            return pool;
    return make(name, bytes, {.huge_pages = false, .prefault = prefault});
}

memfd_pool::memfd_pool(unique_fd fd, std::byte* base, std::uint64_t bytes,
                       std::uint64_t page_bytes) noexcept
    : fd_(std::move(fd)), base_(base), bytes_(bytes), page_bytes_(page_bytes) {}

memfd_pool::memfd_pool(memfd_pool&& other) noexcept
    : fd_(std::move(other.fd_)), base_(std::exchange(other.base_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)), page_bytes_(other.page_bytes_) {}

memfd_pool& memfd_pool::operator=(memfd_pool&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    std::swap(page_bytes_, other.page_bytes_);
    return *this;
}

memfd_pool::~memfd_pool() {
    if (base_)
        ::munmap(base_, bytes_);
}

} // namespace kvferry
