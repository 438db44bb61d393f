// SPDX-License-Identifier: Apache-2.0
// The fabric over shared memory against processes that are killed in the middle of a put.
#include "tests/transport/fabric/fabric_processes.hpp"
#include "tests/transport/shm/spawn_shm.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr const char* writer = "helper process: shm: writes until it is killed";
constexpr const char* target = "helper process: shm: is written to until it is killed";
constexpr const char* parent = "helper process: shm: its child outlives it";

const wire_kind kind{[](caf::actor_system& system, io_loop& loop, fabric_dependencies with) {
                         return spawn_shm(system, loop, std::move(with));
                     },
                     writer, target, parent};

} // namespace

TEST_CASE("helper process: shm: writes until it is killed" * doctest::skip()) {
    write_until_killed(kind);
}

TEST_CASE("helper process: shm: is written to until it is killed" * doctest::skip()) {
    take_writes_until_killed(kind);
}

TEST_CASE("helper process: shm: its child outlives it" * doctest::skip()) {
    have_a_child_until_killed(kind);
}

TEST_CASE("shm: a killed rank whose child lives on is lost at once, whether the child was made by "
          "fork or by exec") {
    check_child_lives_on(kind);
}

TEST_CASE("shm: a writer killed in the middle of a put costs its target nothing; after the "
          "drain no byte comes") {
    check_writer_killed(kind);
}

TEST_CASE("shm: a target killed in the middle of puts: each is answered once, then the owner is "
          "told") {
    check_target_killed(kind);
}
