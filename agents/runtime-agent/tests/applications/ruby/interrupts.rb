# Threads that load scripts all the time, and that are stopped from outside in the middle of it: what stops them arrives.
# Prints what did not. Written without the hook: rounds, and where scripts may be written.
rounds, directory = Integer(ARGV[0]), ARGV[1]
class Stop < StandardError; end
class Missing < Errno::ENOENT; end
lost = Hash.new(0)
random = Random.new(1)
script = lambda do |name|
  File.write(path = "#{directory}/#{name}.rb", "1")
  load path
end
wait = ->(seconds) { Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds }
now = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) }

rounds.times do |round|
  expected = [Stop, Errno::EACCES, IOError, Missing, :kill][round % 5]
  got, begun = nil, Queue.new
  thread = Thread.new do
    begun << true
    number = 0
    loop { script.call("thread#{number += 1}") }
  rescue Exception => error
    got = error.class
  ensure
    got ||= :kill
  end
  thread.report_on_exception = false
  begun.pop
  sleep(random.rand * 0.002)
  expected == :kill ? thread.kill : thread.raise(expected, "stop")
  unless thread.join(2)
    lost["#{expected} never came"] += 1
    thread.kill.join
  end
  lost["#{expected} became #{got}"] += 1 if got != expected
end

# A handler that raises, in the main thread.
trap("USR1") { raise Missing, "signal" }
(rounds / 5).times do
  sender = Thread.new { sleep(random.rand * 0.002); Process.kill("USR1", Process.pid) }
  got, deadline, number = false, wait.call(2), 0
  begin
    script.call("signal#{number += 1}") until now.call > deadline
  rescue Missing
    got = true
  end
  sender.join
  lost["signal never came"] += 1 unless got
end
require "timeout"
(rounds / 10).times do
  deadline, number = wait.call(2), 0
  begin
    Timeout.timeout(0.001) { script.call("timeout#{number += 1}") until now.call > deadline }
    lost["timeout never came"] += 1
  rescue Timeout::Error
    nil
  end
end
p lost
