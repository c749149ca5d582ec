package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"interlock/internal/db"
	"interlock/internal/web"
)

// health answers those who watch over the process.
type health struct{ s *Server }

// Routes mounts the probes.
func (h health) Routes(rt *web.Router) {
	rt.Raw("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	rt.Raw("GET /readyz", h.ready)
}

// ready checks what a request needs: the database, which was migrated at the
// start, and the object store. It says which is missing and nothing more.
func (h health) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	for name, ping := range map[string]func(context.Context) error{"database": h.s.db.Ping, "object store": h.s.blobs.Ping} {
		if err := ping(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "the "+name+" does not answer\n")
			return
		}
	}
	_, _ = io.WriteString(w, "ready\n")
}

// metrics counts. Series are bounded: routes are patterns, not paths, and no
// name of a tenant is a label.
type metrics struct {
	reg      *prometheus.Registry
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

func newMetrics(d *db.DB) *metrics {
	m := &metrics{
		reg:      prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "interlock_http_requests_total", Help: "Answered requests."}, []string{"route", "status"}),
		took:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "interlock_http_request_seconds", Help: "Time to answer, long polls included.", Buckets: []float64{.001, .005, .02, .1, .5, 2, 10}}, []string{"route"}),
	}
	m.reg.MustRegister(m.requests, m.took, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), runStats{d})
	return m
}

func (m *metrics) observe(route string, status int, d time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.took.WithLabelValues(route).Observe(d.Seconds())
}

// Routes mounts the metrics.
func (m *metrics) Routes(rt *web.Router) {
	h := promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	rt.Raw("GET /metrics", h.ServeHTTP)
}

// runStats counts unfinished runs by status when it is asked.
type runStats struct{ d *db.DB }

func runsDesc() *prometheus.Desc {
	return prometheus.NewDesc("interlock_runs", "Runs that have not ended, by status.", []string{"status"}, nil)
}

func databaseDesc() *prometheus.Desc {
	return prometheus.NewDesc("interlock_database_up", "1 if the database answers.", nil, nil)
}

// Describe implements prometheus.Collector.
func (runStats) Describe(c chan<- *prometheus.Desc) {
	c <- runsDesc()
	c <- databaseDesc()
}

// Collect implements prometheus.Collector. What is known without the database
// is told without it: that is when people look.
func (s runStats) Collect(c chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	type row struct {
		status string
		n      int64
	}
	err := s.d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		rows, err := db.All(ctx, tx, func(r db.Row) (x row, err error) { return x, r.Scan(&x.status, &x.n) },
			`SELECT status, count(*) FROM run WHERE ended_at IS NULL GROUP BY status`)
		for _, x := range rows {
			c <- prometheus.MustNewConstMetric(runsDesc(), prometheus.GaugeValue, float64(x.n), x.status)
		}
		return err
	})
	up := 1.0
	if err != nil {
		up = 0
		slog.Warn("count the runs for the metrics", "err", err)
	}
	c <- prometheus.MustNewConstMetric(databaseDesc(), prometheus.GaugeValue, up)
}
