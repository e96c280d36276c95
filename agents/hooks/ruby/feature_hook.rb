# Reports each file that Ruby loads as code to Plimsoll's FIFO. Loaded by -r in RUBYOPT.
#
# It must never raise, print, wait, require anything, or stand in a backtrace: Ruby tells it of each script that was
# compiled (or taken from a cache of compiled ones) before that runs, so that nothing of it is on the stack by then.
# Wrappers around require would show in every backtrace.
#
# A report is one write of at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
#     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
# kind: RH = the hook is at work (name: version), RM = a file was loaded, RF = the hook failed, or cannot see something.
lambda do
  own = __FILE__
  base = File.dirname(File.dirname(own))
  fifo, losses = base + "/reports", base + "/losses"
  # For reading too: a FIFO without a reader would answer with SIGPIPE when the agent dies just now.
  fifo_flags = File::RDWR | File::NONBLOCK
  loss_flags = File::WRONLY | File::APPEND
  lost, lost_pid, failures, seen_features = 0, 0, 0, 0
  reported = {}

  # As they are now: an application may have its own later (mocks, instrumentation).
  current_pid, expand_path = Process.method(:pid), File.method(:expand_path)
  sysopen, for_fd, close = IO.method(:sysopen), IO.method(:for_fd), IO.instance_method(:close)
  write_nonblock, handle_interrupt = IO.instance_method(:write_nonblock), Thread.method(:handle_interrupt)

  # What other threads send here (Thread#raise, Timeout, Thread#kill) waits until the hook's own lines are done.
  deferred = { Object => :never }.freeze
  # Handlers of signals cannot be made to wait: what they raise in between is the application's, and goes on to it.
  ours = lambda do |error|
    # Parts of Ruby are written in Ruby.
    (error.backtrace || []).find { |line| !line.start_with?("<internal:") }.to_s.start_with?(own + ":")
  end

  # A descriptor for a moment only: a program may close those that it does not know.
  write_once = lambda do |path, flags, record|
    io = for_fd.call(sysopen.call(path, flags), "wb", autoclose: true)
    begin
      write_nonblock.bind(io).call(record, exception: false) == record.bytesize
    ensure
      close.bind(io).call
    end
  end

  report = lambda do |kind, name, path|
    pid = current_pid.call
    # A fork: its parent tells what was lost before.
    lost, lost_pid = 0, pid if pid != lost_pid
    name, path = name.b[0, 512], path.b
    room = 4096 - 128 - name.bytesize
    flags = path.bytesize > room ? "t" : "-"
    path = path[0, room]
    head = "\x1e#{kind} #{pid} #{lost} #{flags} #{name.bytesize} #{path.bytesize}\n".b
    told = begin
      write_once.call(fifo, fifo_flags, head << name << path)
    rescue SystemCallError, IOError => error
      raise unless ours.call(error)
      false
    end
    next lost = 0 if told
    # One byte per lost report: what a process that ends now could tell no more.
    told = begin
      write_once.call(losses, loss_flags, "R")
    rescue SystemCallError, IOError => error
      raise unless ours.call(error)
      false
    end
    lost += 1 unless told
  end

  # Runs a piece of the hook: its errors are no one's but the agent's.
  guard = lambda do |&work|
    handle_interrupt.call(deferred) do
      begin
        work.call
      rescue StandardError => error
        raise unless ours.call(error)
        failures += 1
        begin
          report.call("RF", "#{error.class}: #{error.message}", "") if failures <= 3
        rescue StandardError => error
          raise unless ours.call(error)
        end
      end
    end
  end

  loaded = lambda do |path|
    next if !path.is_a?(String) || !path.start_with?("/") || path == own || reported.key?(path)
    report.call("RM", "", path)
    reported[path] = true
  end

  # Shared objects are no scripts: they stand in the list of features once they are loaded.
  features = lambda do
    size = $LOADED_FEATURES.size
    if size != seen_features
      # Entries can have been taken away: then all are looked at.
      from = size > seen_features ? seen_features : 0
      $LOADED_FEATURES[from..-1].each { |path| loaded.call(path) }
      seen_features = size
    end
  end

  guard.call do
    version = "#{RUBY_ENGINE} #{RUBY_ENGINE_VERSION}"
    program = begin
      File.readlink("/proc/self/exe")
    rescue SystemCallError => error
      raise unless ours.call(error)
      RUBY_ENGINE
    end
    report.call("RH", version, program)
    features.call
    begin
      trace = TracePoint.new(:script_compiled) do |point|
        guard.call do
          script = point.instruction_sequence
          if !point.eval_script
            loaded.call(script.absolute_path || expand_path.call(script.path))
          elsif script.path.end_with?(".rb")
            # Evaluated under the name of a file: mostly one that is loaded already. Gemspecs have another ending.
            path = script.path
            loaded.call(path.start_with?("/") ? path : expand_path.call(path))
          end
          features.call
        end
      end
      trace.enable
    rescue ArgumentError
      report.call("RF", "blind: is JRuby or older than 2.6, which tells of what it loaded at its end only", "")
    end
  end
  # Registered before all of the application's, so run after them.
  at_exit { guard.call { features.call } }

  # No trace of the hook among the features once it is one.
  begin
    remover = TracePoint.new(:script_compiled) do
      $LOADED_FEATURES.delete(own)
      seen_features = 0
      remover.disable
    end
    remover.enable
  rescue ArgumentError
    # Where there is no such event it stays one; that was told above.
  end
end.call
