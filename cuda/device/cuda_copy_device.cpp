// SPDX-License-Identifier: Apache-2.0
// The GPU behind copy_device: makes all calls of the CUDA runtime in the path of a transfer.
#include "cuda/device/cuda_copy_device.hpp"

#include "cuda/device/current_device.hpp"
#include "cuda/device/device_handles.hpp"
#include "cuda/device/device_refusal.hpp"
#include "cuda/device/host_pins.hpp"
#include "cuda/device/peer_mappings.hpp"
#include "cuda/device/plan_memory.hpp"
#include "cuda/device/sums_memory.hpp"
#include "cuda/kernel/copy_kernel.hpp"
#include "cuda/kernel/flat_plan.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <utility>

namespace kvferry {

namespace {

/// For the ends of launches, and for plans that two lanes read; more are made when they are needed.
constexpr std::size_t events_reserved = 128;
constexpr std::uint64_t warm_up_bytes = 64;

/// None when the device does not even say that.
std::optional<device_memory_left> memory_left_on(int ordinal) {
    std::size_t free = 0, total = 0;
    if (cudaSetDevice(ordinal) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess)
        return device_memory_left{free, total};
    (void)cudaGetLastError(); // it is no news
    return std::nullopt;
}

class gpu;

struct plan_on_gpu : uploaded_plan {
    plan_on_gpu(device_plan_view on_host, const copy_manner& how, device_plan_view on_device,
                plan_memory memory, std::size_t bytes, gpu& owner)
        : uploaded_plan(on_host, how), on_device(on_device), memory(std::move(memory)),
          bytes(bytes), owner(owner) {}
    ~plan_on_gpu() override;

    /// What a launch with this memory for its sums is told.
    launch_sums sums_in(std::uint64_t* memory) const {
        if (!memory)
            return {};
        return {.of_blocks = memory,
                .first_pair = manner.digest->first_pair,
                .shift = shift_of(*manner.digest),
                .numbers = static_cast<std::uint32_t>(digest->parts.size()),
                .writes = manner.writes};
    }
    void add(const std::uint64_t* of_blocks, std::uint32_t blocks) {
        for (std::uint32_t block = 0; block < blocks; ++block)
            add_sums(of_blocks + block * digest->parts.size());
    }

    device_plan_view on_device;
    plan_memory memory;
    std::size_t bytes;
    gpu& owner;
    /// Recorded after the upload in the first lane; the other lanes wait for it.
    unique_event up;
    std::array<bool, copy_lane_count> knows_it_is_up{};
};

class gpu : public copy_device {
public:
    static caf::expected<std::unique_ptr<copy_device>> make(cuda_copy_device_options);

    /// Destroy only after everything launched has ended, unless the device is lost.
    ~gpu() override {
        const relaxed_capture_mode here; // the thread may be a host's
        for (auto& x : lanes_)
            if (!lost_ && x.stream)
                (void)cudaStreamSynchronize(x.stream.get());
        lanes_ = {};
        free_events_.clear();
        plans_ = {};
        sums_ = {};
        mappings_.close_all();
        pins_.remove_all();
    }

    const std::string& name() const override { return name_; }
    caf::error enter_thread() override {
        relax_capture_mode_of_thread();
        return checked("cudaSetDevice", cudaSetDevice(options_.ordinal));
    }
    caf::expected<std::unique_ptr<uploaded_plan>> upload(const copy_job&,
                                                         const copy_manner&) override;
    caf::error launch(uploaded_plan&, std::uint64_t first_unit, std::uint64_t unit_count, copy_lane,
                      std::uint64_t number) override;
    caf::error take_ended(std::vector<std::uint64_t>& numbers) override;
    caf::error lost() override { return lost_; }

    caf::expected<exported_region> export_region(std::byte* base, std::uint64_t bytes) override;
    caf::expected<std::byte*> map(const memory_region& region,
                                  const device_chunks& chunks) override {
        return mappings_.open(region, chunks);
    }
    void unmap(const memory_region& region, std::byte* address) override {
        mappings_.close(region, address);
    }
    caf::error pin(std::byte* base, std::uint64_t bytes) override { return pins_.add(base, bytes); }
    void unpin(std::byte* base) override { pins_.remove(base); }
    caf::expected<bool> has_happened(void* event) override;
    caf::error record(copy_lane, void* event) override;

    void give_back(plan_memory memory, unique_event up) {
        plans_.give_back(std::move(memory));
        if (up)
            free_events_.push_back(std::move(up));
    }

private:
    explicit gpu(cuda_copy_device_options options)
        : options_(std::move(options)), mappings_(options_.ordinal) {}

    /// A stream; its launches end in order.
    struct lane {
        unique_stream stream;
        struct launched {
            std::uint64_t number = 0;
            unique_event end;
            /// Of a launch that makes a digest.
            plan_on_gpu* plan = nullptr;
            std::uint64_t* sums = nullptr;
            std::uint32_t blocks = 0;
        };
        std::deque<launched> in_flight;
    };

    lane& lane_at(copy_lane which) { return lanes_[static_cast<std::size_t>(which)]; }
    std::uint32_t blocks_for(copy_lane);
    caf::error bring_up(plan_on_gpu&, copy_lane);
    caf::error open();
    caf::error reserve();
    caf::error warm_up();
    caf::error checked(const char* call, cudaError_t);
    void look_for_loss(const caf::error& cause);
    caf::expected<unique_event> take_event();

    const cuda_copy_device_options options_;
    std::string name_;
    caf::error lost_;
    plan_store plans_;
    sums_memory sums_;
    std::vector<unique_event> free_events_;
    std::array<lane, copy_lane_count> lanes_;
    peer_mappings mappings_;
    host_pins pins_;
};

plan_on_gpu::~plan_on_gpu() {
    owner.give_back(std::move(memory), std::move(up));
}

// -- making one -----------------------------------------------------------------------------

caf::expected<std::unique_ptr<copy_device>> gpu::make(cuda_copy_device_options options) {
    current_device_guard guard;
    std::unique_ptr<gpu> made{new gpu(std::move(options))};
    if (auto error = made->open())
        return explain_refusal(made->options_.ordinal, error,
                               memory_left_on(made->options_.ordinal));
    return std::unique_ptr<copy_device>{std::move(made)};
}

caf::error gpu::open() {
    cudaDeviceProp properties{};
    if (auto error = checked("cudaSetDevice", cudaSetDevice(options_.ordinal)))
        return error;
    if (auto error = checked("cudaGetDeviceProperties",
                             cudaGetDeviceProperties(&properties, options_.ordinal)))
        return error;
    name_ = "cuda:" + std::to_string(options_.ordinal) + " (" + properties.name + ")";
    for (int peer : options_.peers)
        if (auto error = enable_peer(options_.ordinal, peer))
            return error;
    for (auto& x : lanes_) {
        auto stream = make_stream();
        if (!stream)
            return std::move(stream.error());
        x.stream = std::move(*stream);
    }
    if (auto error = reserve())
        return error;
    return warm_up();
}

/// Takes what transfers need, while an error still reaches whoever publishes the memory.
caf::error gpu::reserve() {
    if (auto error = plans_.reserve())
        return error;
    if (auto error = sums_.reserve(options_.multiprocessors))
        return error;
    while (free_events_.size() < events_reserved) {
        auto event = make_event();
        if (!event)
            return std::move(event.error());
        free_events_.push_back(std::move(*event));
    }
    return {};
}

/// Copies a few bytes inside a plan's memory, in every lane and by every kernel: the driver loads a
/// kernel at its first launch, which allocates, and takes milliseconds.
caf::error gpu::warm_up() {
    auto memory = plans_.take(2 * warm_up_bytes);
    if (!memory)
        return std::move(memory.error());
    auto sums = sums_.take();
    if (!sums)
        return std::move(sums.error());
    const auto source = reinterpret_cast<std::uint64_t>(memory->device.get());
    auto plan = std::make_shared<copy_plan>();
    plan->parts.push_back(
        {0,
         0,
         std::make_shared<copy_template>(copy_template{{run{0, 0, warm_up_bytes}}}),
         {{0, 0}}});
    const copy_job job{plan, {{source, 0}}, {{source + warm_up_bytes, 0}}, {}};
    const launch_options smallest{1, 32};
    for (std::size_t where = 0; where < lanes_.size(); ++where) {
        auto* stream = lanes_[where].stream.get();
        const copy_manner manners[] = {{}, {true, digest_share{0, 1}}, {false, digest_share{0, 1}}};
        for (const auto& manner : manners) {
            auto uploaded = upload(job, manner);
            if (!uploaded)
                return std::move(uploaded.error());
            auto& view = static_cast<plan_on_gpu&>(**uploaded);
            const auto adds = view.sums_in(manner.digest ? *sums : nullptr);
            auto error = bring_up(view, static_cast<copy_lane>(where));
            if (!error)
                error = checked("launch of the copy kernel",
                                launch_copy_of_argument(view.plan, smallest, stream, adds));
            if (!error)
                error = checked("launch of the copy kernel",
                                launch_copy(view.on_device, 0, 1, smallest, stream, adds));
            if (!error)
                error = checked("cudaStreamSynchronize", cudaStreamSynchronize(stream));
            if (error)
                return error;
        }
    }
    sums_.give_back(*sums);
    plans_.give_back(std::move(*memory));
    return {};
}

/// Turns a status into an error. If a harmless call fails too, the error is permanent for this
/// process and the device is lost; a capture of the host is neither.
caf::error gpu::checked(const char* call, cudaError_t status) {
    if (status == cudaSuccess)
        return {};
    auto error = cuda_error(call, status);
    look_for_loss(error);
    return error;
}

void gpu::look_for_loss(const caf::error& cause) {
    if (lost_ || !lanes_.back().stream)
        return;
    auto again = cudaStreamQuery(lanes_.front().stream.get());
    if (again != cudaSuccess && again != cudaErrorNotReady && !is_capture_error(again))
        lost_ = cause;
    (void)cudaGetLastError();
}

// -- plans ----------------------------------------------------------------------------------

caf::expected<std::unique_ptr<uploaded_plan>> gpu::upload(const copy_job& job,
                                                          const copy_manner& how) {
    const auto bytes = measure(job).bytes();
    auto memory = plans_.take(bytes);
    if (!memory) {
        look_for_loss(memory.error());
        return std::move(memory.error());
    }
    const auto on_host = flatten(job, memory->pinned.get());
    const auto on_device =
        memory->device ? moved_to(on_host, memory->pinned.get(), memory->device.get()) : on_host;
    return std::unique_ptr<uploaded_plan>{
        std::make_unique<plan_on_gpu>(on_host, how, on_device, std::move(*memory), bytes, *this)};
}

// -- launches -------------------------------------------------------------------------------

caf::expected<unique_event> gpu::take_event() {
    if (free_events_.empty())
        return make_event();
    auto event = std::move(free_events_.back());
    free_events_.pop_back();
    return event;
}

/// Makes the plan available in a lane, just before its first launch there. So memory that is given
/// back never has an upload under way.
caf::error gpu::bring_up(plan_on_gpu& plan, copy_lane where) {
    if (std::exchange(plan.knows_it_is_up[static_cast<std::size_t>(where)], true))
        return {};
    if (!plan.memory.device) // read where it is
        return {};
    auto* stream = lane_at(where).stream.get();
    if (plan.up)
        return checked("cudaStreamWaitEvent", cudaStreamWaitEvent(stream, plan.up.get()));
    if (auto error = checked("cudaMemcpyAsync(plan)",
                             cudaMemcpyAsync(plan.memory.device.get(), plan.memory.pinned.get(),
                                             plan.bytes, cudaMemcpyHostToDevice, stream)))
        return error;
    if (where == copy_lane::express) // the only launch: no other lane waits for it
        return {};
    auto event = take_event();
    if (!event)
        return std::move(event.error());
    plan.up = std::move(*event);
    return checked("cudaEventRecord", cudaEventRecord(plan.up.get(), stream));
}

/// Multiprocessors of a lane: a quarter for the express lane while it is in use; the bulk lanes
/// share the rest equally.
std::uint32_t gpu::blocks_for(copy_lane which) {
    const auto quarter = std::max(1u, options_.multiprocessors / 4);
    if (which == copy_lane::express)
        return quarter;
    const auto taken = lane_at(copy_lane::express).in_flight.empty() ? 0 : quarter;
    return std::max(1u, (options_.multiprocessors - taken) / 2);
}

caf::error gpu::launch(uploaded_plan& uploaded, std::uint64_t first_unit, std::uint64_t unit_count,
                       copy_lane where, std::uint64_t number) {
    auto& plan = static_cast<plan_on_gpu&>(uploaded);
    auto event = take_event();
    if (!event)
        return std::move(event.error());
    auto& to = lane_at(where);
    const launch_options grid{blocks_for(where), options_.threads_per_block};
    lane::launched made{number, std::move(*event)};
    if (plan.digest) {
        auto memory = sums_.take();
        if (!memory)
            return std::move(memory.error());
        made.plan = &plan;
        made.sums = *memory;
        made.blocks = blocks_of(unit_count, grid);
    }
    const auto sums = plan.sums_in(made.sums);
    caf::error error;
    if (unit_count == plan.plan.unit_count && plan.bytes <= argument_plan_bytes_max) {
        error = checked("launch of the copy kernel",
                        launch_copy_of_argument(plan.plan, grid, to.stream.get(), sums));
    } else if (!(error = bring_up(plan, where))) {
        error =
            checked("launch of the copy kernel", launch_copy(plan.on_device, first_unit, unit_count,
                                                             grid, to.stream.get(), sums));
    }
    if (error) {
        (void)cudaStreamSynchronize(to.stream.get()); // its upload may be under way
        sums_.give_back(made.sums);
        return error;
    }
    // The kernel is running: without an event its end would stay unknown.
    if (auto refused =
            checked("cudaEventRecord", cudaEventRecord(made.end.get(), to.stream.get()))) {
        lost_ = refused; // reported by take_ended(): this launch counts as in flight
        return {};
    }
    to.in_flight.push_back(std::move(made));
    return {};
}

caf::error gpu::take_ended(std::vector<std::uint64_t>& numbers) {
    for (auto& x : lanes_)
        while (!lost_ && !x.in_flight.empty()) {
            auto status = cudaEventQuery(x.in_flight.front().end.get());
            if (status == cudaErrorNotReady || is_capture_error(status)) {
                (void)cudaGetLastError();
                break; // looked at again
            }
            if (status != cudaSuccess) {
                lost_ = cuda_error("cudaEventQuery", status);
                break;
            }
            auto& ended = x.in_flight.front();
            if (ended.plan)
                ended.plan->add(ended.sums, ended.blocks);
            sums_.give_back(ended.sums);
            numbers.push_back(ended.number);
            free_events_.push_back(std::move(ended.end));
            x.in_flight.pop_front();
        }
    return lost_;
}

// -- memory and events of the host ------------------------------------------------------------

caf::expected<exported_region> gpu::export_region(std::byte* base, std::uint64_t bytes) {
    auto where = cuda_device_of(base);
    if (!where)
        return std::move(where.error());
    if (*where != options_.ordinal)
        return make_error(errc::registration_failed, "it lies on cuda:{}, not on {}", *where,
                          name_);
    return export_allocation(base, bytes, options_.ordinal);
}

caf::expected<bool> gpu::has_happened(void* event) {
    const auto status = cudaEventQuery(static_cast<cudaEvent_t>(event));
    if (status == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return false;
    }
    if (status == cudaErrorCapturedEvent)
        return add_context(cuda_error("cudaEventQuery(the host's event)", status),
                           "an event that belongs to a captured graph never happens: record it "
                           "outside of the capture");
    if (auto error = checked("cudaEventQuery(the host's event)", status))
        return error;
    return true;
}

caf::error gpu::record(copy_lane where, void* event) {
    auto* stream = lane_at(where).stream.get();
    for (auto other : {copy_lane::bulk, copy_lane::other_bulk})
        if (const auto& x = lane_at(other).in_flight;
            where != copy_lane::express && where != other && !x.empty())
            if (auto error =
                    checked("cudaStreamWaitEvent", cudaStreamWaitEvent(stream, x.back().end.get())))
                return error;
    return checked("cudaEventRecord(the host's event)",
                   cudaEventRecord(static_cast<cudaEvent_t>(event), stream));
}

} // namespace

caf::expected<std::unique_ptr<copy_device>>
make_cuda_copy_device(cuda_copy_device_options options) {
    return gpu::make(std::move(options));
}

} // namespace kvferry
