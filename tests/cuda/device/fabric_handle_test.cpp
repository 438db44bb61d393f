// SPDX-License-Identifier: Apache-2.0
// FABRIC handles in files, told apart from everything else that a link passes on.
#include "cuda/device/fabric_handle.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

using namespace kvferry;

namespace {

struct file {
    explicit file(int x) : descriptor(x) { REQUIRE(descriptor >= 0); }
    file(const file&) = delete;
    file& operator=(const file&) = delete;
    ~file() { ::close(descriptor); }
    int descriptor;
};

fabric_handle some_handle() {
    fabric_handle result;
    for (std::size_t i = 0; i < result.size(); ++i)
        result[i] = static_cast<unsigned char>(255 - 3 * i);
    return result;
}

} // namespace

TEST_CASE(
    "fabric_handle: what is put into a file comes out of it, also of a copy of it, and nobody "
    "can change it") {
    auto made = fabric_handle_file(some_handle());
    REQUIRE(made);
    const file kept{*made};
    const file passed_on{::dup(kept.descriptor)};
    CHECK(fabric_handle_in(kept.descriptor) == some_handle());
    CHECK(fabric_handle_in(passed_on.descriptor) == some_handle());
    CHECK(::pwrite(passed_on.descriptor, "x", 1, 20) == -1);
    CHECK(::ftruncate(passed_on.descriptor, 0) == -1);
    CHECK((::fcntl(kept.descriptor, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("fabric_handle: other descriptors are none, whoever sends them") {
    CHECK(fabric_handle_in(-1) == std::nullopt);
    const file device{::open("/dev/zero", O_RDONLY)};
    CHECK(fabric_handle_in(device.descriptor) == std::nullopt);
    int ends[2] = {-1, -1};
    REQUIRE(::pipe(ends) == 0);
    const file reads{ends[0]}, writes{ends[1]};
    CHECK(fabric_handle_in(reads.descriptor) == std::nullopt); // and does not block
    const auto memfd = [](const std::string& content, int seals) {
        const auto descriptor = ::memfd_create("test", MFD_ALLOW_SEALING);
        REQUIRE(::write(descriptor, content.data(), content.size())
                == static_cast<ssize_t>(content.size()));
        REQUIRE(::fcntl(descriptor, F_ADD_SEALS, seals) == 0);
        return descriptor;
    };
    constexpr int all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    const auto mark = std::string{"kvferry fabric"} + std::string(2, '\0');
    const auto right = mark + std::string(64, 'h');
    CHECK(fabric_handle_in(file{memfd(right, all)}.descriptor).has_value());
    for (const auto& [content, seals] : {std::pair{right, F_SEAL_SHRINK | F_SEAL_SEAL},
                                         {std::string(80, 'h'), all},
                                         {right + "h", all},
                                         {mark, all},
                                         {std::string{}, all}})
        CHECK(fabric_handle_in(file{memfd(content, seals)}.descriptor) == std::nullopt);
}
