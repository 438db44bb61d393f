// SPDX-License-Identifier: Apache-2.0
// Checks a peer's descriptor before it maps it.
#include "transport/host_link/memory_mapping.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <algorithm>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <utility>

namespace kvferry {

caf::error check_shareable(int fd, std::uint64_t bytes) {
    // Checks the seal first: a size read before the seal could still shrink.
    const auto seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
        return make_error(errc::registration_failed,
                          "its descriptor is not a memfd sealed against shrinking");
    struct stat file {};
    if (::fstat(fd, &file) != 0)
        return system_error(errc::registration_failed, "fstat");
    if (bytes == 0 || static_cast<std::uint64_t>(file.st_size) < bytes)
        return make_error(errc::registration_failed,
                          "{} bytes were promised, its descriptor holds {}", bytes, file.st_size);
    return {};
}

caf::expected<memory_mapping> memory_mapping::make(int fd, std::uint64_t bytes) {
    if (auto problem = check_shareable(fd, bytes))
        return problem;
    struct stat file {};
    if (::fstat(fd, &file) != 0)
        return system_error(errc::registration_failed, "fstat");
    // Rounds up to whole pages for munmap; st_blksize is the page size, also of huge-page files.
    const auto page = static_cast<std::uint64_t>(file.st_blksize);
    const auto length =
        std::min((bytes + page - 1) / page * page, static_cast<std::uint64_t>(file.st_size));
    auto* address = made_to_fail("mmap peer")
                        ? MAP_FAILED
                        : ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED)
        return system_error(errc::registration_failed,
                            "mmap of a peer's region of " + std::to_string(length) + " bytes",
                            "raise the process's limit of address space or of mappings");
    memory_mapping mapping{static_cast<std::byte*>(address), length};
    if (made_to_fail("madvise") || ::madvise(address, length, MADV_DONTFORK) != 0)
        return system_error(errc::registration_failed, "madvise(MADV_DONTFORK)");
    ::madvise(address, length, MADV_DONTDUMP); // a core must not hold other processes' KV
    return mapping;
}

memory_mapping::memory_mapping(memory_mapping&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

memory_mapping& memory_mapping::operator=(memory_mapping&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

memory_mapping::~memory_mapping() {
    if (base_)
        ::munmap(base_, bytes_);
}

} // namespace kvferry
