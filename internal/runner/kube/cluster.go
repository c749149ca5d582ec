package kube

import (
	"context"
	"fmt"
	"os"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is the API of a Kubernetes cluster, as far as it is used here. The
// whole typed client would register every kind there is when a program starts,
// also in servers; this one knows two groups, from the first use on.
type cluster struct {
	core, batch *rest.RESTClient
	namespace   string
}

// askWithin bounds one request to the cluster.
const askWithin = 15 * time.Second

// connect finds the cluster: file, else the one that this process runs in, else
// where kubectl looks.
func connect(file, namespace string) (*cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	var config *rest.Config
	var err error
	if file == "" {
		config, err = rest.InClusterConfig()
	}
	if config == nil {
		config, err = loaded.ClientConfig()
	}
	if err != nil {
		return nil, err
	}
	if namespace == "" {
		b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
		if namespace = string(b); err != nil || file != "" {
			if namespace, _, err = loaded.Namespace(); err != nil {
				return nil, err
			}
		}
	}
	config.QPS, config.Burst, config.Timeout, config.UserAgent = 50, 100, askWithin, "interlock"
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, batchv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	of := func(path string, gv schema.GroupVersion) (*rest.RESTClient, error) {
		c := *config
		c.APIPath, c.GroupVersion, c.NegotiatedSerializer = path, &gv, codecs
		return rest.RESTClientFor(&c)
	}
	c := &cluster{namespace: namespace}
	if c.core, err = of("/api", corev1.SchemeGroupVersion); err == nil {
		c.batch, err = of("/apis", batchv1.SchemeGroupVersion)
	}
	return c, err
}

func (c *cluster) check(ctx context.Context) error {
	var pods corev1.PodList
	if err := c.core.Get().Namespace(c.namespace).Resource("pods").Param("limit", "1").Do(ctx).Into(&pods); err != nil {
		return fmt.Errorf("list pods in namespace %s: %w", c.namespace, err)
	}
	return nil
}

// createJob makes a Job, or finds the one of its name that is there: a create
// whose answer was lost is repeated without harm.
func (c *cluster) createJob(ctx context.Context, j *batchv1.Job) (*batchv1.Job, error) {
	var out batchv1.Job
	err := c.batch.Post().Namespace(c.namespace).Resource("jobs").Body(j).Do(ctx).Into(&out)
	if apierrors.IsAlreadyExists(err) {
		return c.job(ctx, j.Name)
	}
	return &out, err
}

// job returns nil for a Job that is not there.
func (c *cluster) job(ctx context.Context, name string) (*batchv1.Job, error) {
	var out batchv1.Job
	err := c.batch.Get().Namespace(c.namespace).Resource("jobs").Name(name).Do(ctx).Into(&out)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &out, err
}

func (c *cluster) createSecret(ctx context.Context, s *corev1.Secret) error {
	err := c.core.Post().Namespace(c.namespace).Resource("secrets").Body(s).Do(ctx).Error()
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (c *cluster) pods(ctx context.Context, job string) ([]corev1.Pod, error) {
	var out corev1.PodList
	err := c.core.Get().Namespace(c.namespace).Resource("pods").Param("labelSelector", batchv1.JobNameLabel+"="+job).Do(ctx).Into(&out)
	return out.Items, err
}

// deletePod asks a pod to end; without grace it is killed.
func (c *cluster) deletePod(ctx context.Context, name string, now bool) error {
	o := &metav1.DeleteOptions{}
	if now {
		o.GracePeriodSeconds = new(int64)
	}
	return absent(c.core.Delete().Namespace(c.namespace).Resource("pods").Name(name).Body(o).Do(ctx).Error())
}

// deleteJob deletes a Job; the cluster then ends its pods and its Secret.
func (c *cluster) deleteJob(ctx context.Context, name string) error {
	background := metav1.DeletePropagationBackground
	return absent(c.batch.Delete().Namespace(c.namespace).Resource("jobs").Name(name).Body(&metav1.DeleteOptions{PropagationPolicy: &background}).Do(ctx).Error())
}

func absent(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
