// SPDX-License-Identifier: Apache-2.0
// memfd_pool and memory_mapping: their promises, and that a failing step leaves nothing behind.
#include "tests/support/caf_setup.hpp"
#include "tests/support/open_resources.hpp"
#include "transport/host_link/memfd_pool.hpp"
#include "transport/host_link/memory_mapping.hpp"
#include "transport/loop/system_call.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

using namespace kvferry;
using testing::open_resources;

TEST_CASE("memfd_pool: its memory is zero, writable, and whole pages long") {
    auto pool = memfd_pool::make("pool", 10000);
    REQUIRE(pool);
    CHECK(pool->bytes() == 12288);
    CHECK(pool->base()[12287] == std::byte{0});
    std::memset(pool->base(), 7, pool->bytes());
    std::byte seen{};
    CHECK(::pread(pool->fd(), &seen, 1, 12287) == 1);
    CHECK(seen == std::byte{7});
}

TEST_CASE(
    "memfd_pool: nobody can change its size, and a program that is executed does not get it") {
    auto pool = memfd_pool::make("pool", 8192);
    REQUIRE(pool);
    CHECK(::ftruncate(pool->fd(), 4096) != 0);
    CHECK(::ftruncate(pool->fd(), 16384) != 0);
    CHECK((::fcntl(pool->fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("memfd_pool: a prefaulted pool has all its pages") {
    auto pool = memfd_pool::make("pool", 64 * 4096, {.huge_pages = false, .prefault = true});
    REQUIRE(pool);
    std::vector<unsigned char> present(64);
    REQUIRE(::mincore(pool->base(), pool->bytes(), present.data()) == 0);
    for (auto page : present)
        CHECK((page & 1) == 1);
}

TEST_CASE("memfd_pool: it is gone with its owner, also when it was moved") {
    const auto before = open_resources();
    {
        auto pool = memfd_pool::make("pool", 4096);
        REQUIRE(pool);
        auto other = memfd_pool::make("other", 8192);
        REQUIRE(other);
        memfd_pool moved = std::move(*pool);
        moved = std::move(*other);
        CHECK(moved.bytes() == 8192);
        CHECK(open_resources() != before);
    }
    CHECK(open_resources() == before);
}

TEST_CASE("memfd_pool: whichever step fails, the error names it and nothing is left") {
    const auto before = open_resources();
    for (const auto* step : {"memfd_create", "ftruncate", "F_ADD_SEALS", "mmap", "fallocate"}) {
        CAPTURE(step);
        failing_call fails{step, ENOMEM};
        auto pool = memfd_pool::make("pool-7", 4096, {.huge_pages = false, .prefault = true});
        REQUIRE_FALSE(pool);
        CHECK(code_of(pool.error()) == errc::registration_failed);
        CHECK(text_of(pool.error()).find(step) != std::string::npos);
        CHECK(text_of(pool.error()).find("pool-7") != std::string::npos);
        CHECK(text_of(pool.error()).find("Cannot allocate memory") != std::string::npos);
        CHECK(open_resources() == before);
    }
}

TEST_CASE("memfd_pool: sizes that no pool can have are refused") {
    CHECK(code_of(memfd_pool::make("pool", 0).error()) == errc::invalid_argument);
    CHECK(code_of(memfd_pool::make("pool", ~std::uint64_t{0}).error()) == errc::invalid_argument);
    const auto before = open_resources();
    CHECK(code_of(memfd_pool::make("pool", std::uint64_t{1} << 62).error())
          == errc::registration_failed);
    CHECK(open_resources() == before);
}

TEST_CASE("memfd_pool: huge pages are had, or refused with what to do") {
    const auto before = open_resources();
    {
        auto pool = memfd_pool::make("pool", 4096, {.huge_pages = true, .prefault = true});
        if (pool) {
            CHECK(pool->bytes() == std::uint64_t{2} << 20);
            auto mapping = memory_mapping::make(pool->fd(), 4096);
            REQUIRE(mapping);
            CHECK(mapping->bytes() == std::uint64_t{2} << 20);
        } else {
            CHECK(code_of(pool.error()) == errc::registration_failed);
            CHECK(text_of(pool.error()).find("nr_hugepages") != std::string::npos);
        }
    }
    CHECK(open_resources() == before);
}

TEST_CASE("memfd_pool: the best pages are huge ones or, where none are reserved, normal ones") {
    auto pool = memfd_pool::make_best("pool", std::uint64_t{3} << 20, true);
    REQUIRE(pool);
    const auto page = pool->page_bytes();
    CHECK((page == std::uint64_t{2} << 20 || page == static_cast<std::uint64_t>(::getpagesize())));
    CHECK(pool->bytes() % page == 0);
    CHECK(pool->bytes() >= std::uint64_t{3} << 20);
    std::memset(pool->base(), 7, pool->bytes());

    // A full reserve of huge pages must not make this fail; a failing mmap must.
    failing_call fails{"mmap", ENOMEM};
    CHECK(code_of(memfd_pool::make_best("pool", std::uint64_t{3} << 20, true).error())
          == errc::registration_failed);
}

TEST_CASE("memory_mapping: what is written through it is in the pool") {
    auto pool = memfd_pool::make("pool", 8192);
    REQUIRE(pool);
    auto mapping = memory_mapping::make(pool->fd(), 8192);
    REQUIRE(mapping);
    CHECK(mapping->base() != pool->base());
    mapping->base()[5000] = std::byte{42};
    CHECK(pool->base()[5000] == std::byte{42});
}

TEST_CASE("memory_mapping: it outlives the pool and the descriptor") {
    auto pool = memfd_pool::make("pool", 4096);
    REQUIRE(pool);
    pool->base()[1] = std::byte{9};
    auto mapping = memory_mapping::make(pool->fd(), 4096);
    REQUIRE(mapping);
    pool = make_error(errc::gone, "the owner let go");
    CHECK(mapping->base()[1] == std::byte{9});
}

namespace {

/// The kernel's flags of the mapping that begins here: "rd wr sh ... dd".
std::string flags_of_mapping(const void* base) {
    std::ifstream maps{"/proc/self/smaps"};
    char begin[32];
    std::snprintf(begin, sizeof begin, "%lx-", reinterpret_cast<unsigned long>(base));
    bool inside = false;
    for (std::string line; std::getline(maps, line);) {
        if (line.starts_with(begin))
            inside = true;
        else if (inside && line.starts_with("VmFlags:"))
            return line + " ";
    }
    return {};
}

} // namespace

TEST_CASE("pools and mappings of peers are in no core dump") {
    auto pool = memfd_pool::make("pool", 8192);
    REQUIRE(pool);
    auto mapping = memory_mapping::make(pool->fd(), 8192);
    REQUIRE(mapping);
    for (const void* base :
         {static_cast<const void*>(pool->base()), static_cast<const void*>(mapping->base())})
        CHECK(flags_of_mapping(base).find(" dd ") != std::string::npos);
}

TEST_CASE(
    "memfd_pool: huge pages that the control group forbids are not taken, even without prefault") {
    failing_call forbidden{"populate huge page", EFAULT};
    auto huge = memfd_pool::make("pool", 4096, {.huge_pages = true, .prefault = false});
    CHECK(code_of(huge.error()) == errc::registration_failed);
    auto best = memfd_pool::make_best("pool", std::uint64_t{4} << 20, false);
    REQUIRE(best);
    CHECK(best->page_bytes() == static_cast<std::uint64_t>(::getpagesize()));
}

TEST_CASE("memory_mapping: a file that its owner can shrink is refused") {
    const auto before = open_resources();
    unique_fd open_end{::memfd_create("shrinks", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    REQUIRE(open_end);
    REQUIRE(::ftruncate(open_end.get(), 8192) == 0);
    CHECK(code_of(memory_mapping::make(open_end.get(), 8192).error()) == errc::registration_failed);
    unique_fd no_memfd{::open("/dev/zero", O_RDWR | O_CLOEXEC)};
    CHECK(code_of(memory_mapping::make(no_memfd.get(), 4096).error()) == errc::registration_failed);
    open_end.reset();
    no_memfd.reset();
    CHECK(open_resources() == before);
}

TEST_CASE("memory_mapping: a promise beyond the end of the file is refused") {
    auto pool = memfd_pool::make("pool", 8192);
    REQUIRE(pool);
    const auto before = open_resources();
    for (auto bytes : {std::uint64_t{0}, std::uint64_t{8193}, ~std::uint64_t{0}}) {
        CAPTURE(bytes);
        CHECK(code_of(memory_mapping::make(pool->fd(), bytes).error())
              == errc::registration_failed);
    }
    CHECK(open_resources() == before);
}

TEST_CASE("memory_mapping: whichever step fails, nothing is left") {
    auto pool = memfd_pool::make("pool", 8192);
    REQUIRE(pool);
    const auto before = open_resources();
    for (const auto* step : {"mmap peer", "madvise"}) {
        CAPTURE(step);
        failing_call fails{step, ENOMEM};
        CHECK(code_of(memory_mapping::make(pool->fd(), 8192).error()) == errc::registration_failed);
        CHECK(open_resources() == before);
    }
}
