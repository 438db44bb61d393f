// SPDX-License-Identifier: Apache-2.0
// What each command of a script does.
#include "tools/worker/rank_host.hpp"

#include "actors/discovery/instance_roles.hpp"
#include "messages/values/error_format.hpp"
#include "messages/version.hpp"

#include <span>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <unordered_map>

namespace kvferry::tools {

namespace {

template <class... Args>
caf::error wrong(fmt::format_string<Args...> what, Args&&... args) {
    return make_error(errc::invalid_argument, fmt::format(what, std::forward<Args>(args)...));
}

/// Thrown while a command is read, caught in run().
struct command_failed {
    caf::error reason;
};

aux_record aux_of(const json& command) {
    const auto& given = command.at("aux");
    aux_record result;
    result.first_tokens = given.value("first_tokens", std::vector<std::int32_t>{});
    result.draft_tokens = given.value("draft_tokens", std::vector<std::int32_t>{});
    result.prompt_tokens = command.at("prompt_tokens").get<std::uint32_t>();
    result.cached_tokens = given.value("cached_tokens", 0u);
    return result;
}

} // namespace

caf::expected<std::unique_ptr<rank_host>>
rank_host::start(runtime& actors, const rank_options& options, line_writer_actor out) {
    auto plan = plan_rank(options);
    if (!plan)
        return plan.error();
    auto pool = memory::make(options, *plan);
    if (!pool)
        return pool.error();
    if (options.fill_seed) {
        block_list all;
        for (std::uint32_t slot = 0; slot < options.slots; ++slot)
            all.slots.push_back(static_cast<std::int32_t>(slot));
        const auto tokens = options.slots * plan->pages.groups[0].tokens_per_slot.value();
        cache_content{plan->pages, pool->base()}.fill(all, tokens, *options.fill_seed);
        if (pool->device)
            if (auto problem = pool->device->write(0, pool->owned))
                return problem;
    }
    auto started = actors.start_worker(plan->worker);
    if (!started)
        return started.error();
    auto info = started->publish({pool->region()}, plan->pages);
    if (!info)
        return info.error();
    std::unique_ptr<rank_host> result{new rank_host{
        std::move(out), options.stop_deadline, std::move(*pool), std::move(*started), plan->pages}};
    result->live_ = start_trace_endpoint(kvferry::describe(*info), {&result->worker_});
    result->print({{"event", "ready"},
                   {"instance", options.instance},
                   {"rank", info->rank.value},
                   {"pid", getpid()},
                   {"version", std::string{version()}},
                   {"info_endpoint", result->worker_.info_endpoint()},
                   {"metrics", result->worker_.metrics_endpoint()},
                   {"slot_bytes", result->content_.slot_bytes()},
                   {"slots", result->content_.slot_count()}});
    return result;
}

caf::expected<rank_host::memory> rank_host::memory::make(const rank_options& options,
                                                         const rank_plan& plan) {
    memory result;
    if (options.memory == "shared") {
        auto made = memfd_pool::make_best("kvferry " + options.instance, plan.pool_bytes, false);
        if (!made)
            return made.error();
        result.shared.emplace(std::move(*made));
        return result;
    }
    result.owned.resize(plan.pool_bytes);
    result.is_twin = options.memory == "twin";
    if (options.memory == "cuda") {
        auto made = make_device_pool(options.device, plan.pool_bytes, options.device_chunk_bytes);
        if (!made)
            return add_context(made.error(), "--memory cuda");
        result.device = std::move(*made);
    }
    return result;
}

host_region rank_host::memory::region() {
    if (shared)
        return {shared->base(), shared->bytes(), memory_kind::host_shared, shared->fd()};
    if (device)
        return {device->base(), device->bytes(), memory_kind::cuda, -1};
    return {owned.data(), owned.size(), is_twin ? memory_kind::cuda : memory_kind::host_private,
            -1};
}

rank_host::rank_host(line_writer_actor out, std::chrono::milliseconds stop_deadline, memory pool,
                     worker started, const page_table& pages)
    : out_(std::move(out)), stop_deadline_(stop_deadline), pool_(std::move(pool)),
      worker_(std::move(started)), pages_(pages), content_(pages, pool_.base()) {}

bool rank_host::run(const std::string& line) {
    static const std::unordered_map<std::string, void (rank_host::*)(const json&)> commands{
        {"open", &rank_host::open},       {"send", &rank_host::send},
        {"receive", &rank_host::receive}, {"cancel", &rank_host::cancel},
        {"status", &rank_host::status},   {"fill", &rank_host::fill},
        {"check", &rank_host::check},     {"digest", &rank_host::digest},
        {"await", &rank_host::await},     {"statistics", &rank_host::statistics},
        {"connect", &rank_host::connect}, {"republish", &rank_host::republish},
        {"role", &rank_host::role},
    };
    if (line.find_first_not_of(" \t\r") == line.npos)
        return true;
    forget_released();
    json command = line;
    try {
        command = json::parse(line);
        const auto name = command.at("do").get<std::string>();
        if (name == "stop")
            return false;
        const auto found = commands.find(name);
        if (found == commands.end())
            throw command_failed{wrong("no command '{}'", name)};
        (this->*found->second)(command);
    } catch (const json::exception& thrown) {
        print(error_event(command, wrong("{}", thrown.what())));
    } catch (const command_failed& failed) {
        print(error_event(command, failed.reason));
    }
    return true;
}

// -- sessions -----------------------------------------------------------------------------------

/// A handle that is replaced would be lost: its session could neither be cancelled nor awaited.
void rank_host::refuse_second(session_key key) const {
    if (sessions_.contains(key))
        throw command_failed{
            make_error(errc::duplicate,
                       "rid {} has a {} session here already: cancel it, or wait for its release",
                       key.second, key.first)};
}

void rank_host::open(const json& command) {
    open_context(command, command.value("aux", false) ? aux_mode::required : aux_mode::none);
    print({{"event", "opened"}, {"rid", command.at("rid")}});
}

const rank_host::session& rank_host::open_context(const json& command, aux_mode aux) {
    refuse_second(key_of(side::context, command));
    session made;
    made.tx.emplace(worker_.open_tx(options_of(command, aux, made.told)));
    return sessions_.emplace(key_of(side::context, command), std::move(made)).first->second;
}

void rank_host::send(const json& command) {
    const auto slice = slice_of(command);
    std::optional<aux_record> aux;
    if (command.contains("aux"))
        aux = aux_of(command);
    const auto known = sessions_.find(key_of(side::context, command));
    const auto& to = known != sessions_.end()
                         ? known->second
                         : open_context(command, aux ? aux_mode::required : aux_mode::none);
    to.tx->send(slice);
    if (aux)
        to.tx->send_aux(*aux);
    print({{"event", "sending"}, {"rid", command.at("rid")}});
}

void rank_host::receive(const json& command) {
    const auto slice = slice_of(command);
    const auto key = key_of(side::generation, command);
    if (command.contains("context") || !sessions_.contains(key)) {
        refuse_second(key);
        const auto aux = command.value("aux", false) ? aux_mode::required : aux_mode::none;
        const context_address from{command.at("context").get<std::string>(),
                                   command.value("dp_rank", 0u)};
        session made;
        made.rx.emplace(worker_.open_rx(options_of(command, aux, made.told), from));
        sessions_.emplace(key, std::move(made));
    }
    sessions_.at(key).rx->receive(slice);
    print({{"event", "receiving"}, {"rid", command.at("rid")}});
}

void rank_host::cancel(const json& command) {
    find(command).handle().cancel(command.value("why", "the script cancelled"));
    print({{"event", "cancelling"}, {"rid", command.at("rid")}});
}

void rank_host::status(const json& command) {
    auto answer = find(command).handle().status();
    if (!answer)
        throw command_failed{answer.error()};
    print(event_of(*answer));
}

// -- memory -------------------------------------------------------------------------------------

void rank_host::fill(const json& command) {
    const auto blocks = blocks_of(command);
    from_device(blocks);
    const auto bytes =
        content_.fill(blocks, command.at("prompt_tokens"), command.at("seed").get<std::uint64_t>());
    to_device(blocks);
    print({{"event", "filled"}, {"bytes", bytes}});
}

void rank_host::check(const json& command) {
    const auto blocks = blocks_of(command);
    from_device(blocks);
    const auto found = content_.check(blocks, command.at("prompt_tokens"),
                                      command.at("seed").get<std::uint64_t>());
    print({{"event", "checked"},
           {"ok", found.rows_wrong == 0},
           {"bytes", found.bytes},
           {"rows", found.rows},
           {"rows_wrong", found.rows_wrong},
           {"first_difference", found.first_difference}});
}

void rank_host::digest(const json& command) {
    const auto blocks = blocks_of(command);
    from_device(blocks);
    print({{"event", "digest"}, {"value", content_.digest(blocks)}});
}

/// One-sided writes notify nobody, so this polls the memory until the deadline.
void rank_host::await(const json& command) {
    const auto slot = command.at("slot").get<std::int32_t>();
    const auto block = command.at("block").get<std::uint32_t>();
    const auto seed = command.at("seed").get<std::uint64_t>();
    if (slot < 0 || !content_.has({0, {slot}}))
        throw command_failed{wrong("slot {} is not in the pool", slot)};
    const std::chrono::milliseconds limit{command.value("deadline_ms", 10000)};
    const auto deadline = clock::now() + limit;
    for (;;) {
        from_device({0, {slot}});
        if (content_.arrived(static_cast<std::uint32_t>(slot), block, seed))
            break;
        if (clock::now() > deadline)
            throw command_failed{
                make_error(errc::deadline_exceeded, "block {} is not in slot {}", block, slot)};
        std::this_thread::sleep_for(std::chrono::microseconds{50});
    }
    print({{"event", "arrived"}, {"slot", slot}});
}

/// Calls f(offset, bytes of the image) for every slot that a block has.
template <class F>
void rank_host::for_each_slot(const block_list& blocks, F&& f) {
    if (!pool_.device)
        return;
    const std::uint64_t stride = pool_.owned.size() / content_.slot_count();
    for (auto slot : blocks.slots)
        if (slot >= 0) {
            const auto offset = static_cast<std::uint64_t>(slot) * stride;
            if (auto problem = f(offset, std::span{pool_.owned}.subspan(offset, stride)))
                throw command_failed{problem};
        }
}

void rank_host::to_device(const block_list& blocks) {
    for_each_slot(blocks, [this](std::uint64_t offset, std::span<std::byte> image) {
        return pool_.device->write(offset, image);
    });
}

void rank_host::from_device(const block_list& blocks) {
    for_each_slot(blocks, [this](std::uint64_t offset, std::span<std::byte> image) {
        return pool_.device->read(offset, image);
    });
}

// -- the rank -----------------------------------------------------------------------------------

void rank_host::statistics(const json&) {
    auto answer = worker_.statistics();
    if (!answer)
        throw command_failed{answer.error()};
    print(event_of(*answer));
}

void rank_host::connect(const json& command) {
    const context_address to{command.at("context").get<std::string>(), std::nullopt};
    const std::chrono::milliseconds deadline{command.value("deadline_ms", 5000)};
    if (auto problem = worker_.connect(to, deadline))
        throw command_failed{std::move(problem)};
    print({{"event", "connected"}});
}

/// As an engine that was asleep, with the same memory.
void rank_host::role(const json& command) {
    const auto given = command.at("role").get<std::string>();
    const auto role = instance_role_named(given);
    if (!role)
        throw command_failed{wrong("no role '{}'", given)};
    if (auto problem = worker_.set_role(*role))
        throw command_failed{problem};
    print({{"event", "role"}, {"role", given}});
}

void rank_host::republish(const json& command) {
    const std::chrono::milliseconds deadline{command.value("deadline_ms", 5000)};
    if (auto problem = worker_.unpublish(deadline))
        throw command_failed{std::move(problem)};
    auto info = worker_.publish({pool_.region()}, pages_);
    if (!info)
        throw command_failed{info.error()};
    print({{"event", "republished"}});
}

void rank_host::drain(std::chrono::milliseconds deadline, std::function<void()> ended) {
    auto run = [this, deadline, ended = std::move(ended)] {
        auto result = worker_.drain(deadline);
        ended();
        return result;
    };
    try {
        drained_ = std::async(std::launch::async, run);
    } catch (const std::system_error&) { // no more threads: then no commands meanwhile
        drained_ = std::async(std::launch::deferred, run);
        drained_.wait();
    }
}

bool rank_host::stop() {
    live_.reset();
    const auto stopped = drained_.valid() ? drained_.get() : worker_.stop(stop_deadline_);
    for (auto& [key, session] : sessions_) // the last outcomes must come before the last line
        session.told.wait_for(std::chrono::seconds{1});
    json event{{"event", "stopped"}, {"unproven", json::array()}, {"error", nullptr}};
    if (!stopped && code_of(stopped.error()) == errc::not_proven)
        event["unproven"].push_back(text_of(stopped.error()));
    else if (!stopped)
        event["error"] = error_json(stopped.error());
    print(event);
    return stopped.operator bool();
}

// -- reading commands ---------------------------------------------------------------------------

rank_host::session_key rank_host::key_of(side role, const json& command) {
    return {role, command.at("rid").get<std::uint64_t>()};
}

rank_host::session& rank_host::find(const json& command) {
    const auto request = command.at("rid").get<std::uint64_t>();
    const auto where = command.value("side", "");
    for (auto role : {side::generation, side::context})
        if (where.empty() || where == to_string(role))
            if (auto found = sessions_.find({role, request}); found != sessions_.end())
                return found->second;
    throw command_failed{
        make_error(errc::gone, "rid {} has no session here, or it is released", request)};
}

session_options rank_host::options_of(const json& command, aux_mode aux,
                                      std::future<void>& told) const {
    session_options result;
    result.request = rid{command.at("rid").get<std::uint64_t>()};
    result.aux = aux;
    if (command.contains("deadline_ms"))
        result.deadline = result.transfer_deadline =
            std::chrono::milliseconds{command.at("deadline_ms").get<std::int64_t>()};
    result.traceparent = command.value("traceparent", "");
    for (const auto& part : command.value("allow_missing", std::vector<std::string>{}))
        if (part == "layers")
            result.allowed.layers = true;
        else if (part == "roles")
            result.allowed.roles = true;
        else
            throw command_failed{wrong("allow_missing: '{}' is not layers or roles", part)};
    if (const auto class_name = command.value("priority", std::string{}); !class_name.empty()) {
        result.priority = parse_priority(class_name);
        if (!result.priority)
            throw command_failed{wrong("priority: '{}' is not high, normal or low", class_name)};
    }
    auto promise = std::make_shared<std::promise<void>>();
    told = promise->get_future();
    result.on_outcome = [out = out_, promise, opened = clock::now()](const session_finished& x) {
        const auto since_open =
            std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - opened);
        if (x.state == session_state::error)
            flight_recorder::failed("rid " + to_string(x.request) + " failed: " + text_of(x.error));
        tell_from_outside(out, line_of(event_of(x, since_open)));
        promise->set_value();
    };
    result.on_piece = [out = out_](const piece_finished& x) {
        if (x.error)
            tell_from_outside(out, line_of(event_of(x)));
    };
    result.on_released = [out = out_](const session_released& x) {
        tell_from_outside(out, line_of(event_of(x)));
    };
    return result;
}

block_list rank_host::blocks_of(const json& command) const {
    block_list result{command.value("first_block", 0u),
                      command.at("slots").get<std::vector<std::int32_t>>()};
    if (!content_.has(result))
        throw command_failed{
            wrong("slots go from 0 to {}, or -1 for none", content_.slot_count() - 1)};
    return result;
}

kv_slice rank_host::slice_of(const json& command) const {
    kv_slice result;
    result.prompt_tokens = command.at("prompt_tokens").get<std::uint32_t>();
    result.tokens = {0, result.prompt_tokens};
    if (command.contains("tokens"))
        result.tokens = {command["tokens"].at(0).get<std::uint32_t>(),
                         command["tokens"].at(1).get<std::uint32_t>()};
    result.groups.push_back(blocks_of(command));
    result.last = command.value("last", true);
    return result;
}

/// Drops the handles of sessions that are over; their rids may come again.
void rank_host::forget_released() {
    std::erase_if(sessions_, [](const auto& entry) {
        return entry.second.handle().released().wait_for(std::chrono::seconds{0})
               == std::future_status::ready;
    });
}

void rank_host::print(const json& event) const {
    tell_from_outside(out_, line_of(event));
}

} // namespace kvferry::tools
